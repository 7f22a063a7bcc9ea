//! The definitions as a text that is committed, so that a change of the wire is a visible diff; and that
//! every definition has a comment, since these are the manual.

use std::collections::HashMap;
use std::fmt::Write as _;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet,
};

/// One message, with the comment of its definition and of its fields.
pub(crate) struct MessageDefinition {
    pub(crate) name: String,
    pub(crate) comment: String,
    pub(crate) fields: Vec<Line>,
}

/// One enumeration.
pub(crate) struct EnumDefinition {
    pub(crate) name: String,
    pub(crate) comment: String,
    pub(crate) values: Vec<Line>,
}

/// One service.
pub(crate) struct ServiceDefinition {
    pub(crate) name: String,
    pub(crate) comment: String,
    pub(crate) calls: Vec<Line>,
}

/// A field, a value or a call.
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) number: i32,
    pub(crate) shape: String,
    pub(crate) comment: String,
}

/// One file of definitions.
pub(crate) struct Definitions {
    pub(crate) file: String,
    pub(crate) services: Vec<ServiceDefinition>,
    pub(crate) messages: Vec<MessageDefinition>,
    pub(crate) enums: Vec<EnumDefinition>,
}

/// Numbers that a path of a descriptor is made of (descriptor.proto).
const MESSAGES: i32 = 4;
const ENUMS: i32 = 5;
const SERVICES: i32 = 6;
const MEMBERS: i32 = 2;

/// All files of the protocol.
pub(crate) fn definitions() -> Vec<Definitions> {
    let set = FileDescriptorSet::decode(mfs_proto::DESCRIPTOR).expect("a descriptor");
    set.file.iter().map(read).collect()
}

fn read(file: &FileDescriptorProto) -> Definitions {
    let info = file.source_code_info.as_ref().expect("comments are kept");
    let comments: HashMap<&[i32], String> = info
        .location
        .iter()
        .map(|location| (&location.path[..], tidy(location.leading_comments())))
        .collect();
    let comment = |path: &[i32]| comments.get(path).cloned().unwrap_or_default();
    let services = indexed(&file.service).map(|(s, service)| ServiceDefinition {
        name: service.name().to_owned(),
        comment: comment(&[SERVICES, s]),
        calls: indexed(&service.method)
            .map(|(m, method)| Line {
                name: method.name().to_owned(),
                number: 0,
                shape: format!(
                    "({}) returns ({})",
                    streamed(method.client_streaming(), method.input_type()),
                    streamed(method.server_streaming(), method.output_type())
                ),
                comment: comment(&[SERVICES, s, MEMBERS, m]),
            })
            .collect(),
    });
    let messages = indexed(&file.message_type).map(|(m, message)| {
        assert!(message.nested_type.is_empty(), "nested messages are not described here");
        MessageDefinition {
            name: message.name().to_owned(),
            comment: comment(&[MESSAGES, m]),
            fields: fields(message, |f| comment(&[MESSAGES, m, MEMBERS, f])),
        }
    });
    let enums = indexed(&file.enum_type).map(|(e, definition)| EnumDefinition {
        name: definition.name().to_owned(),
        comment: comment(&[ENUMS, e]),
        values: values(definition, |v| comment(&[ENUMS, e, MEMBERS, v])),
    });
    Definitions {
        file: file.name().to_owned(),
        services: services.collect(),
        messages: messages.collect(),
        enums: enums.collect(),
    }
}

fn fields(message: &DescriptorProto, comment: impl Fn(i32) -> String) -> Vec<Line> {
    indexed(&message.field)
        .map(|(f, field)| Line {
            name: field.name().to_owned(),
            number: field.number(),
            shape: shape(message, field),
            comment: comment(f),
        })
        .collect()
}

fn values(definition: &EnumDescriptorProto, comment: impl Fn(i32) -> String) -> Vec<Line> {
    indexed(&definition.value)
        .map(|(v, value)| Line {
            name: value.name().to_owned(),
            number: value.number(),
            shape: String::new(),
            comment: comment(v),
        })
        .collect()
}

fn shape(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let plain = match field.r#type() {
        Type::Message | Type::Enum => short(field.type_name()),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    if field.label() == Label::Repeated {
        return format!("repeated {plain}");
    }
    if field.proto3_optional() {
        return format!("optional {plain}");
    }
    match field.oneof_index {
        Some(index) => {
            let index = usize::try_from(index).expect("an index");
            format!("{plain} of {}", message.oneof_decl[index].name())
        }
        None => plain,
    }
}

fn streamed(stream: bool, message: &str) -> String {
    format!("{}{}", if stream { "stream " } else { "" }, short(message))
}

fn short(name: &str) -> String {
    name.rsplit('.').next().unwrap_or(name).to_owned()
}

fn tidy(comment: &str) -> String {
    comment.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn indexed<T>(items: &[T]) -> impl Iterator<Item = (i32, &T)> {
    (0..).zip(items)
}

/// The text that is committed: without comments, which may be bettered freely.
fn text(definitions: &[Definitions]) -> String {
    let mut text = String::from(
        "The wire of mfs. Made from proto/mfs/v1 by MFS_BLESS=1 cargo test -p mfs-tests --test wire;\n\
         what is here may be added to, and not changed otherwise within a version of the protocol.\n",
    );
    for file in definitions {
        let _ = writeln!(text, "\n{}", file.file);
        for service in &file.services {
            let _ = writeln!(text, "\nservice {}", service.name);
            for call in &service.calls {
                let _ = writeln!(text, "    {}{}", call.name, call.shape);
            }
        }
        let messages = file.messages.iter().map(|m| ("message", &m.name, &m.fields));
        let enums = file.enums.iter().map(|e| ("enum", &e.name, &e.values));
        for (kind, name, lines) in messages.chain(enums) {
            let _ = writeln!(text, "\n{kind} {name}");
            for line in lines {
                let entry = format!("{:5} {} {}", line.number, line.name, line.shape);
                let _ = writeln!(text, "{}", entry.trim_end());
            }
        }
    }
    text
}

#[test]
fn the_committed_text_is_that_of_the_definitions() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/wire/descriptor.txt");
    let wanted = text(&definitions());
    if std::env::var_os("MFS_BLESS").is_some() {
        std::fs::write(path, &wanted).expect("written");
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == wanted,
        "the wire changed: if that is meant, run MFS_BLESS=1 cargo test -p mfs-tests --test wire, and \
         look at the diff of tests/wire/descriptor.txt"
    );
}

#[test]
fn every_definition_has_a_comment_that_is_a_sentence() {
    let mut without = Vec::new();
    let mut check = |what: String, comment: &str| {
        if !comment.ends_with(['.', ':']) {
            without.push(what);
        }
    };
    for file in definitions() {
        for service in file.services {
            check(service.name.clone(), &service.comment);
            for call in service.calls {
                check(format!("{}.{}", service.name, call.name), &call.comment);
            }
        }
        let messages = file.messages.into_iter().map(|m| (m.name, m.comment, m.fields));
        let enums = file.enums.into_iter().map(|e| (e.name, e.comment, e.values));
        for (name, comment, lines) in messages.chain(enums) {
            check(name.clone(), &comment);
            for line in lines {
                check(format!("{name}.{}", line.name), &line.comment);
            }
        }
    }
    assert!(without.is_empty(), "without a comment that ends in a full stop: {without:#?}");
}

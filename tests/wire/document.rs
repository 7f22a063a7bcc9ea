//! docs/PROTOCOL.md against the definitions: each operation says what the house rules ask of it, and the
//! reference at the end is made from the comments of the `.proto` files.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use mfs::types::Errno;
use mfs::types::op::Operation;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::descriptor::{Definitions, Line, definitions};
use crate::values;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/PROTOCOL.md");

/// What follows this line is made from the definitions.
const REFERENCE: &str = "## Reference\n";

/// What each operation says, in this order.
const PARTS: [&str; 7] =
    ["Arguments", "Answer", "Class", "Repeated", "Errors", "Leases", "Recalls"];

fn document() -> String {
    std::fs::read_to_string(PATH).expect("docs/PROTOCOL.md")
}

/// The sections of the third level before the reference: heading to the lines of its list.
fn sections(document: &str) -> HashMap<String, Vec<(String, String)>> {
    let (hand, _) = document.split_once(REFERENCE).expect("a reference");
    let mut sections = HashMap::new();
    for section in hand.split("\n### ").skip(1) {
        let (heading, body) = section.split_once('\n').unwrap_or((section, ""));
        let body = body.split("\n## ").next().unwrap_or_default();
        let parts = body.split("\n* ").filter_map(|item| {
            let (part, text) = item.trim().trim_start_matches("* ").split_once(": ")?;
            Some((part.to_owned(), text.split_whitespace().collect::<Vec<_>>().join(" ")))
        });
        sections.insert(heading.trim().to_owned(), parts.collect());
    }
    sections
}

/// Whether the server must remember the answer, by operation.
fn once_only() -> HashMap<&'static str, bool> {
    let mut runner = TestRunner::deterministic();
    (0..4_000)
        .map(|_| values::operation().new_tree(&mut runner).expect("a value").current())
        .map(|operation| (operation.name(), operation.is_once_only()))
        .collect()
}

/// The words of a text that stand in backquotes.
fn quoted(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_operation_says_what_it_takes_excludes_answers_and_recalls() {
    let document = document();
    let sections = sections(&document);
    let once_only = once_only();
    let definitions = definitions();
    let messages: HashMap<_, _> = definitions
        .iter()
        .flat_map(|file| &file.messages)
        .map(|message| (message.name.as_str(), message))
        .collect();
    let symbols: BTreeSet<_> = Errno::ALL.iter().map(|errno| errno.symbol()).collect();
    for name in Operation::NAMES {
        let parts = sections.get(*name).unwrap_or_else(|| panic!("no section ### {name}"));
        let titles: Vec<_> = parts.iter().map(|(part, _)| part.as_str()).collect();
        assert_eq!(titles, PARTS, "{name}");
        let text = |part: &str| &parts.iter().find(|(p, _)| p == part).expect("checked above").1;

        let message = messages[name];
        let fields = message.fields.iter().map(|field| field.name.clone()).collect();
        assert_eq!(quoted(text("Arguments")), fields, "{name}: arguments");
        let answer = text("Answer").trim_end_matches('.');
        let said = message.comment.split("Answer: ").nth(1).expect("the definition says");
        let said = said.split([';', '.']).next().expect("a word");
        assert_eq!(quoted(answer), BTreeSet::from([said.to_owned()]), "{name}: answer");
        let class = text("Class").split([' ', ',', '.', ';']).next().expect("a word");
        assert!(["none", "read", "write", "global"].contains(&class), "{name}: class {class}");
        let repeated = if once_only[name] { "once only" } else { "freely" };
        assert!(text("Repeated").starts_with(repeated), "{name}: repeated {repeated}");
        for symbol in quoted(text("Errors")) {
            assert!(
                symbols.contains(symbol.as_str()),
                "{name}: {symbol} is no error of the protocol"
            );
        }
    }
}

#[test]
fn every_service_and_every_code_of_the_protocol_has_its_place() {
    let document = document();
    let (hand, _) = document.split_once(REFERENCE).expect("a reference");
    for file in definitions() {
        for service in file.services {
            let named = [format!("`{}`", service.name), format!("`{}.", service.name)];
            assert!(
                named.iter().any(|name| hand.contains(name)),
                "{} ({}) is not explained",
                service.name,
                file.file
            );
        }
        for code in
            file.enums.iter().filter(|e| e.name == "ProtocolCode").flat_map(|e| &e.values[1..])
        {
            let name = code.name.trim_start_matches("PROTOCOL_CODE_");
            assert!(hand.contains(&format!("`{name}`")), "{name} is not explained");
        }
    }
}

#[test]
fn the_reference_is_that_of_the_definitions() {
    let document = document();
    let (hand, _) = document.split_once(REFERENCE).expect("a reference");
    let wanted = format!("{hand}{REFERENCE}{}", reference(&definitions()));
    if std::env::var_os("MFS_BLESS").is_some() {
        std::fs::write(PATH, &wanted).expect("written");
    }
    assert!(
        std::fs::read_to_string(PATH).expect("docs/PROTOCOL.md") == wanted,
        "docs/PROTOCOL.md is old: run MFS_BLESS=1 cargo test -p mfs-tests --test wire"
    );
}

/// The reference: every service, message and enumeration with its comment.
fn reference(files: &[Definitions]) -> String {
    let mut text = String::from("\nMade from the comments of proto/mfs/v1.\n");
    for file in files {
        let _ = writeln!(text, "\n### {}", file.file);
        for service in &file.services {
            let _ = writeln!(text, "\n#### service {}\n\n{}\n", service.name, service.comment);
            for call in &service.calls {
                let _ = writeln!(text, "* `{}{}`: {}", call.name, call.shape, call.comment);
            }
        }
        for message in &file.messages {
            let _ = writeln!(text, "\n#### {}\n\n{}", message.name, message.comment);
            table(&mut text, "field", &message.fields);
        }
        for definition in &file.enums {
            let _ = writeln!(text, "\n#### {}\n\n{}", definition.name, definition.comment);
            table(&mut text, "value", &definition.values);
        }
    }
    text
}

fn table(text: &mut String, what: &str, lines: &[Line]) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n| {what} | | meaning |\n|---|---|---|");
    for line in lines {
        let shape = format!("{} {}", line.number, line.shape);
        let comment = line.comment.replace('|', "\\|");
        let _ = writeln!(text, "| `{}` | {} | {comment} |", line.name, shape.trim());
    }
}

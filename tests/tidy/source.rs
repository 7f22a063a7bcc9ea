//! The project's own files, as the rules look at them.

use std::path::{Path, PathBuf};

/// A Rust file of the project.
#[derive(Debug)]
pub(super) struct Source {
    /// Its path below the project's directory, with `/`.
    pub(super) path: String,
    /// The whole text.
    pub(super) text: String,
    /// Lines before the module of its tests.
    code_lines: usize,
}

/// The project's directory.
pub(super) fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the project").to_owned()
}

/// All files of the project that are text, but for what builds and what tools keep.
pub(super) fn files() -> Vec<(String, String)> {
    let root = project();
    let mut found = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("the project can be read").flatten() {
            let path = entry.path();
            let name = entry.file_name().into_string().expect("names are plain");
            let kind = entry.file_type().expect("the project can be read");
            if kind.is_dir() {
                if !matches!(name.as_str(), "target" | ".git") && !name.ends_with("-regressions") {
                    directories.push(path);
                }
            } else if kind.is_file() && name != ".git" {
                let below = path.strip_prefix(&root).expect("it was found there");
                let below = below.to_str().expect("names are plain").to_owned();
                if let Ok(text) = std::fs::read_to_string(&path) {
                    found.push((below, text));
                }
            }
        }
    }
    assert!(found.len() > 40, "only {} files were found: the rules check nothing", found.len());
    found.sort();
    found
}

/// All Rust files of the project.
pub(super) fn sources() -> Vec<Source> {
    files().into_iter().filter(|(path, _)| path.ends_with(".rs")).map(Source::from).collect()
}

/// Fails with all offenders, if there are any.
pub(super) fn nobody(rule: &str, offenders: Vec<String>) {
    assert!(offenders.is_empty(), "{rule}\n  {}\n", offenders.join("\n  "));
}

// === impl Source ===

impl From<(String, String)> for Source {
    fn from((path, text): (String, String)) -> Self {
        let tests = |line: &str| line.starts_with("#[cfg(test)]");
        let total = text.lines().count();
        let code_lines = text.lines().position(tests).unwrap_or(total);
        Self { path, text, code_lines }
    }
}

impl Source {
    /// Whether the file as a whole is a test.
    pub(super) fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
    }

    /// Lines before its tests.
    pub(super) fn code_lines(&self) -> usize {
        self.code_lines
    }

    /// The lines that are shipped, with their numbers and without comments: those before the tests, none of
    /// a test file.
    pub(super) fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = if self.is_test() { 0 } else { self.code_lines };
        self.text.lines().enumerate().take(lines).filter_map(|(number, line)| {
            let trimmed = line.trim_start();
            if trimmed.starts_with("//") {
                return None;
            }
            // A comment behind code; `://` is an address in a string.
            let end = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':'));
            Some((number + 1, end.map_or(line, |(at, _)| &line[..at])))
        })
    }

    /// A place in the file, for messages.
    pub(super) fn at(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {}", self.path, what.trim())
    }
}

/// Whether `word` stands in `line` as a word of its own; after a word that ends in `:` anything may follow.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(part)
            && (word.ends_with(':') || !line[at + word.len()..].chars().next().is_some_and(part))
    })
}

#[test]
fn words_are_found_whole() {
    assert!(has_word("use fuser::Session;", "fuser"));
    assert!(!has_word("let confuser = 1; fuser_x", "fuser"));
}

#[test]
fn tests_and_comments_are_not_shipped() {
    let text = "//! x\nlet a = \"http://b\"; // unsafe\n#[cfg(test)]\nmod tests { unsafe {} }\n";
    let source = Source::from(("src/a.rs".to_owned(), text.to_owned()));
    let lines: Vec<_> = source.shipped().collect();
    assert_eq!(lines, [(2, "let a = \"http://b\"; ")]);
    assert_eq!(source.code_lines(), 2);
}

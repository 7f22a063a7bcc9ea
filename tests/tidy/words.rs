//! Rules about words: what is unfinished, what names nothing, what belongs to no project.

use super::source::{files, has_word, nobody, sources};

/// Words of unfinished work, in pieces so that this file does not accuse itself.
fn unfinished() -> [String; 6] {
    [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["XX", "X"].concat(),
        ["todo", "!("].concat(),
        ["unimple", "mented!("].concat(),
        ["db", "g!("].concat(),
    ]
}

#[test]
fn nothing_is_left_unfinished() {
    let words = unfinished();
    let mut found = Vec::new();
    for (path, text) in files().iter().filter(|(path, _)| !path.ends_with(".lock")) {
        for (number, line) in text.lines().enumerate() {
            let marked = words.iter().any(|word| match word.strip_suffix("!(") {
                Some(_) => line.contains(word.as_str()),
                None => has_word(line, word),
            });
            // mktemp(1) templates are not marks.
            if marked && !line.contains("mktemp") {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    nobody("what is unfinished is an issue, not a comment:", found);
}

#[test]
fn nothing_shipped_unwraps() {
    let mut found = Vec::new();
    for source in sources() {
        for (number, line) in source.shipped().filter(|(_, line)| line.contains(".unwrap()")) {
            found.push(source.at(number, line));
        }
    }
    nobody("`expect` states the invariant, `unwrap` states nothing:", found);
}

#[test]
fn names_say_something() {
    let mut found = Vec::new();
    for source in sources() {
        let stem = source.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        if matches!(stem, "util" | "utils" | "helper" | "helpers" | "misc" | "common") {
            found.push(source.path.clone());
        }
        for (number, line) in source.shipped() {
            let declares = ["struct ", "enum ", "trait "].iter().find_map(|d| line.split_once(d));
            let Some((_, rest)) = declares else { continue };
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
            if ["Manager", "Helper", "Util", "Utils", "Info"].iter().any(|end| name.ends_with(end))
            {
                found.push(source.at(number, line));
            }
        }
    }
    nobody("a name says what the thing is:", found);
}

#[test]
fn the_project_speaks_of_itself_alone() {
    // A path of the machine it was written on, or a mirror's host, helps nobody elsewhere.
    let foreign =
        [["/wo", "rk/"].concat(), ["arti", "factory"].concat(), ["/home", "/user/"].concat()];
    let mut found = Vec::new();
    for (path, text) in files() {
        for (number, line) in text.lines().enumerate() {
            if foreign.iter().any(|word| line.contains(word.as_str())) {
                found.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    nobody("no file names the place where it was written:", found);
}

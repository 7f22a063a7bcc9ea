//! Rules about what documents and code owe each other.

use super::source::{nobody, project, sources};

fn read(path: &str) -> String {
    std::fs::read_to_string(project().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn every_metric_is_kept() {
    let declarations = read("src/telemetry/metrics.rs");
    let body = declarations.split("metrics! {").last().unwrap().split("\n}\n").next().unwrap();
    let symbols: Vec<_> = body
        .lines()
        .filter_map(|line| line.trim().split_once(": ").map(|(symbol, _)| symbol))
        .filter(|symbol| symbol.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .collect();
    assert!(symbols.len() > 20, "the declarations no longer read as this rule expects");
    let sources = sources();
    let kept = |symbol: &str| {
        let outside = sources.iter().filter(|s| !s.path.starts_with("src/telemetry/"));
        outside.flat_map(|s| s.shipped()).any(|(_, line)| super::source::has_word(line, symbol))
    };
    let unkept = symbols.iter().filter(|s| !kept(s));
    nobody("a metric that is declared is also updated:", unkept.map(|s| (*s).to_owned()).collect());
}

#[test]
fn the_example_line_of_fstab_is_the_one_documented() {
    let example = read("fstab.example");
    let lines: Vec<_> = example.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).collect();
    assert_eq!(lines.len(), 1, "fstab.example has one line that is not a comment: {lines:?}");
    let fields: Vec<_> = lines[0].split_whitespace().collect();
    assert_eq!(fields, ["mfs", "/mfs", "mfs", "dfsa=1", "0", "0"]);
    assert!(read("README.md").contains("mfs /mfs mfs dfsa=1 0 0"));
}

/// Every paragraph of these documents under "What holds" ends in the tests that show it.
#[test]
fn every_promise_has_its_test() {
    for path in ["docs/SEMANTICS.md", "docs/SECURITY.md"] {
        check_promises(path);
    }
}

fn check_promises(path: &str) {
    let document = read(path);
    let promises = document.split("\n## What holds\n").nth(1).expect("the part `What holds`");
    let promises = promises.split("\n## ").next().unwrap_or(promises);
    let sources = sources();
    let mut broken = Vec::new();
    let mut count = 0;
    for promise in promises.split("\n\n").filter(|p| p.trim_start().starts_with("* ")) {
        count += 1;
        let tests: Vec<_> = promise
            .split_once("Shown by ")
            .map(|(_, tests)| tests.split('`').skip(1).step_by(2).collect())
            .unwrap_or_default();
        if tests.is_empty() {
            broken.push(format!("no test: {}", promise.trim()));
        }
        for test in tests {
            let function = format!("fn {}(", test.rsplit("::").next().unwrap_or(test));
            if !sources.iter().any(|s| s.text.contains(&function)) {
                broken.push(format!("no such test: {test}"));
            }
        }
    }
    nobody("a promise stands with the test that shows it:", broken);
    assert!(count >= 10, "{path}: only {count} promises were found: this rule checks nothing");
}

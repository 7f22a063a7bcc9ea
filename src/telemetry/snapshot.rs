//! `Snapshot`: all figures of one process at one moment, as JSON and as Prometheus text.
//!
//! A snapshot may come from another node whose version knows other metrics, so names are data here.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::instruments::Keeper;
use super::metrics;

/// Figures by metric name. As JSON: an object of numbers, or of objects by the value of the label.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Snapshot(pub BTreeMap<String, Value>);

/// The figure of one metric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A single figure.
    Single(i64),
    /// Figures by the value of the metric's label; those never counted are left out.
    ByLabel(BTreeMap<String, i64>),
}

// === impl Snapshot ===

impl Snapshot {
    /// The figures of this process, which is of the kind `process`.
    pub fn take(process: Keeper) -> Self {
        let kept = metrics::ALL.iter().filter(|m| m.definition().keeper.includes(process));
        Self(kept.map(|m| (m.definition().name.to_owned(), m.read())).collect())
    }

    /// As one line of JSON.
    pub fn to_json(&self) -> String {
        // Names, numbers and maps with text keys: nothing that serde_json could refuse.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The figure of a metric, summed over its label; 0 if it is not in the snapshot.
    pub fn total(&self, name: &str) -> i64 {
        match self.0.get(name) {
            Some(Value::Single(figure)) => *figure,
            Some(Value::ByLabel(figures)) => figures.values().sum(),
            None => 0,
        }
    }

    /// The figure of a metric for one value of its label; 0 if it was never counted.
    pub fn by_label(&self, name: &str, value: &str) -> i64 {
        match self.0.get(name) {
            Some(Value::ByLabel(figures)) => figures.get(value).copied().unwrap_or(0),
            _ => 0,
        }
    }

    /// In the Prometheus text format, version 0.0.4. A metric that this version does not know goes
    /// without help and type, and its label is called `label`.
    pub fn to_prometheus(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.0 {
            // Writing to a String cannot fail.
            let _ = self.write_metric(&mut text, name, value);
        }
        text
    }

    fn write_metric(&self, text: &mut String, name: &str, value: &Value) -> std::fmt::Result {
        let known = metrics::ALL.iter().map(|m| m.definition()).find(|d| d.name == name);
        if let Some(d) = known {
            writeln!(text, "# HELP {name} {}", d.meaning.trim())?;
            writeln!(text, "# TYPE {name} {}", d.kind.word())?;
        }
        match value {
            Value::Single(figure) => writeln!(text, "{name} {figure}"),
            Value::ByLabel(figures) => {
                let label = known.and_then(|d| d.label).map_or("label", |(label, _)| label);
                figures.iter().try_for_each(|(value, figure)| {
                    writeln!(text, "{name}{{{label}=\"{}\"}} {figure}", escaped(value))
                })
            }
        }
    }
}

/// A label's value as the format wants it between quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Snapshot {
        let requests = BTreeMap::from([("Lookup".to_owned(), 7), ("Read".to_owned(), 2)]);
        Snapshot(BTreeMap::from([
            ("mfs_server_sessions".to_owned(), Value::Single(3)),
            ("mfs_server_requests_received_total".to_owned(), Value::ByLabel(requests)),
            (
                "mfs_of_a_later_version".to_owned(),
                Value::ByLabel(BTreeMap::from([("a\"b".to_owned(), 1)])),
            ),
        ]))
    }

    #[test]
    fn json_reads_back() {
        let json = sample().to_json();
        assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), sample());
        assert!(json.contains(r#""mfs_server_sessions":3"#), "{json}");
    }

    #[test]
    fn json_of_something_else_is_refused() {
        for wrong in ["[]", "3", r#"{"a":"b"}"#, r#"{"a":{"b":[]}}"#, "{", ""] {
            assert!(serde_json::from_str::<Snapshot>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn prometheus_text_has_help_type_and_labels() {
        let text = sample().to_prometheus();
        let wanted = "# TYPE mfs_server_requests_received_total counter\n\
                      mfs_server_requests_received_total{operation=\"Lookup\"} 7\n";
        assert!(text.contains(wanted), "{text}");
        assert!(
            text.contains("# TYPE mfs_server_sessions gauge\nmfs_server_sessions 3\n"),
            "{text}"
        );
        assert!(text.contains("mfs_of_a_later_version{label=\"a\\\"b\"} 1\n"), "{text}");
    }

    #[test]
    fn figures_are_found_by_name_and_label() {
        let sample = sample();
        assert_eq!(sample.total("mfs_server_requests_received_total"), 9);
        assert_eq!(sample.by_label("mfs_server_requests_received_total", "Read"), 2);
        assert_eq!(sample.by_label("mfs_server_requests_received_total", "Rename"), 0);
        assert_eq!(sample.total("nothing"), 0);
    }

    #[test]
    fn a_process_shows_what_it_keeps() {
        let (daemon, mount) = (Snapshot::take(Keeper::Daemon), Snapshot::take(Keeper::Mount));
        assert!(daemon.0.contains_key("mfs_server_sessions"));
        assert!(!daemon.0.contains_key("mfs_mount_inodes"));
        assert!(mount.0.contains_key("mfs_mount_inodes"));
        assert!(!mount.0.contains_key("mfs_server_sessions"));
        assert!(mount.0.contains_key("mfs_client_requests_sent_total"));
    }
}

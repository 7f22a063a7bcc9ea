//! `Row`: a job in a line of a terminal of 80 columns. What is too long is cut; the JSON has all of it.

/// A job, in words.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) pid: String,
    pub(super) user: String,
    pub(super) node: String,
    pub(super) state: String,
    pub(super) moves: String,
    pub(super) time: String,
    pub(super) cpu: String,
    pub(super) memory: String,
    pub(super) stays: String,
    pub(super) command: String,
}

/// Characters of a line.
const WIDTH: usize = 80;

/// The columns: what stands above each, and the most characters it takes. The command has what is left.
const COLUMNS: [(&str, usize); 10] = [
    ("JOB", 12),
    ("PID", 7),
    ("USER", 7),
    ("NODE", 7),
    ("STATE", 8),
    ("MOVES", 5),
    ("SINCE", 5),
    ("CPU", 4),
    ("MEM", 5),
    ("STAYS", 8),
];

/// The lines.
pub(super) fn show(rows: &[Row], with_ended: bool) -> String {
    let mut lines = vec![COLUMNS.map(|(title, _)| title.to_owned()).to_vec()];
    if with_ended {
        // Of those that have ended: how long they took.
        lines[0][6] = "TIME".to_owned();
    }
    lines.extend(rows.iter().map(Row::fields));
    let widths: Vec<usize> = (0..COLUMNS.len())
        .map(|column| {
            let longest = lines.iter().map(|fields| fields[column].chars().count()).max();
            longest.unwrap_or(0).min(COLUMNS[column].1)
        })
        .collect();
    let commands = ["COMMAND"].into_iter().chain(rows.iter().map(|row| row.command.as_str()));
    let mut text = String::new();
    for (fields, command) in lines.iter().zip(commands) {
        let mut line = String::new();
        for (field, width) in fields.iter().zip(&widths) {
            line += &format!("{:width$} ", cut(field, *width));
        }
        let left = WIDTH.saturating_sub(line.chars().count());
        line += &cut(command, left);
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// A text in one line of at most so many characters.
fn cut(text: &str, width: usize) -> String {
    let text = text.replace(char::is_control, " ");
    if text.chars().count() <= width {
        return text;
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.extend((width > 0).then_some('~'));
    short
}

/// A number of bytes, short: `12K`, `3M`, `1.5G`.
pub(super) fn bytes(count: u64) -> String {
    const K: u64 = 1 << 10;
    const M: u64 = 1 << 20;
    const G: u64 = 1 << 30;
    match count {
        0..M => format!("{}K", count / K),
        M..G => format!("{}M", count / M),
        _ => format!("{}.{}G", count / G, count % G * 10 / G),
    }
}

// === impl Row ===

impl Row {
    fn fields(&self) -> Vec<String> {
        let fields = [
            &self.id,
            &self.pid,
            &self.user,
            &self.node,
            &self.state,
            &self.moves,
            &self.time,
            &self.cpu,
            &self.memory,
            &self.stays,
        ];
        fields.map(Clone::clone).to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> Row {
        let text = || text.to_owned();
        Row {
            id: text(),
            pid: text(),
            user: text(),
            node: text(),
            state: text(),
            moves: text(),
            time: text(),
            cpu: text(),
            memory: text(),
            stays: text(),
            command: text(),
        }
    }

    #[test]
    fn lines_fit_a_terminal() {
        let shown =
            show(&[row("a-text-that-is-much-too-long-for-a-column"), row("x"), row("")], true);
        assert_eq!(shown.lines().count(), 4);
        assert!(shown.lines().all(|line| line.chars().count() <= WIDTH), "{shown}");
        assert_eq!(show(&[row("x\ny")], false).lines().count(), 2);
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!([0, 2_048, 5 << 20, 3 << 29].map(bytes), ["0K", "2K", "5M", "1.5G"]);
    }
}

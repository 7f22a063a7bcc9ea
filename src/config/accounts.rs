//! `Accounts`: the users and groups of a machine, to be compared with another's.
//!
//! Users are the same by number on all nodes, so a name that has another number elsewhere is somebody
//! else there. Only /etc/passwd and /etc/group are looked at: a directory service is the same for all.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

/// A user or a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account {
    /// Number.
    pub id: u32,
    /// Name.
    pub name: String,
}

/// The ordinary users and groups, ordered by number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// The users.
    pub users: Vec<Account>,
    /// The groups.
    pub groups: Vec<Account>,
}

/// Ordinary accounts; those below are the distribution's own and differ between machines without harm.
const ORDINARY: std::ops::RangeInclusive<u32> = 1_000..=65_533;

// === impl Accounts ===

impl Accounts {
    /// Those of this machine, from files in the form of passwd(5) and group(5).
    pub fn read(passwd: &Path, group: &Path) -> io::Result<Self> {
        Ok(Self {
            users: parse(&String::from_utf8_lossy(&fs::read(passwd)?)),
            groups: parse(&String::from_utf8_lossy(&fs::read(group)?)),
        })
    }

    /// One text for equal accounts, to take a digest of.
    pub fn canonical(&self) -> String {
        let line = |kind: char| move |a: &Account| format!("{kind}:{}:{}\n", a.id, a.name);
        self.users.iter().map(line('u')).chain(self.groups.iter().map(line('g'))).collect()
    }

    /// Sentences about what is another one on the two machines; names that only one of them has do no
    /// harm and are left out.
    pub fn differences(&self, mine: &str, other: &Self, theirs: &str) -> Vec<String> {
        let mut found = compare("user", &self.users, mine, &other.users, theirs);
        found.extend(compare("group", &self.groups, mine, &other.groups, theirs));
        found
    }
}

/// `name:password:id:...` lines; what is not one is left out, as libc does.
fn parse(text: &str) -> Vec<Account> {
    let mut accounts: Vec<Account> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let id = fields.nth(1)?.parse().ok()?;
            Some(Account { id, name: name.to_owned() })
        })
        .filter(|account| ORDINARY.contains(&account.id))
        .collect();
    accounts.sort();
    accounts.dedup();
    accounts
}

fn compare(
    kind: &str,
    mine: &[Account],
    my_node: &str,
    theirs: &[Account],
    their_node: &str,
) -> Vec<String> {
    let by_name: BTreeMap<_, _> = theirs.iter().map(|a| (a.name.as_str(), a.id)).collect();
    let by_id: BTreeMap<_, _> = theirs.iter().map(|a| (a.id, a.name.as_str())).collect();
    let mut found = Vec::new();
    for account in mine {
        let Account { id, name } = account;
        match (by_name.get(name.as_str()), by_id.get(id)) {
            (Some(other), _) if other != id => found.push(format!(
                "{kind} {name} has number {id} on {my_node} and {other} on {their_node}"
            )),
            (None, Some(other)) if other != name => found.push(format!(
                "number {id} is {kind} {name} on {my_node} and {kind} {other} on {their_node}"
            )),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(users: &str) -> Accounts {
        Accounts { users: parse(users), groups: Vec::new() }
    }

    #[test]
    fn only_ordinary_accounts_count() {
        let text = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nnobody:x:65534:\n\
                    broken\n:x:1001:\nbob:x:many:\n";
        assert_eq!(parse(text), [Account { id: 1000, name: "ann".to_owned() }]);
    }

    #[test]
    fn another_number_or_another_name_is_told() {
        let a = accounts("ann:x:1000:\nbob:x:1001:\ncid:x:1002:\n");
        assert_eq!(a.differences("n1", &a, "n2"), [""; 0]);
        let b = accounts("ann:x:1001:\ndan:x:1002:\n");
        assert_eq!(
            a.differences("n1", &b, "n2"),
            [
                "user ann has number 1000 on n1 and 1001 on n2",
                "number 1001 is user bob on n1 and user ann on n2",
                "number 1002 is user cid on n1 and user dan on n2",
            ]
        );
        assert_ne!(a.canonical(), b.canonical());
    }
}

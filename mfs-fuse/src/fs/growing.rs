//! Files that are open for reading here and may be made longer elsewhere: the kernel is made to look.
//!
//! The kernel asks how long a file is when a program reads it or looks at it, but not when it maps it, sends
//! it (sendfile(2)) or copies it (copy_file_range(2)): there it goes by the length that it knows. Who has
//! mapped pages of a file is told by its home before whoever made it longer is answered (`pages`). Who merely
//! has it open is not, or every line of a log would wait for all who follow it. But as long as the home grants
//! the attributes of the file, it asks for them back before they change; so from then on it is looked until
//! they are granted anew. That is a moment later, and a second at most, since files that change without pause
//! are not leased.
//!
//! Lock order: `Growing::open` is a leaf.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use mfs::clock::since_boot;
use mfs::sync::Mutex;
use mfs::types::{InodeNo, NodeId};

use super::MountedFs;
use super::cache::Cache;

/// After a change was announced: how long until it is looked first, again, and then each time.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(2),
    Duration::from_millis(20),
    Duration::from_millis(200),
    Duration::from_secs(1),
];

/// A file by its home and its number there.
type Key = (NodeId, InodeNo);

/// The files that are open for reading.
#[derive(Debug, Default)]
pub struct Growing {
    /// Whose part this is, once something is open.
    cache: OnceLock<Weak<Cache>>,
    open: Mutex<HashMap<Key, OpenFor>>,
}

#[derive(Debug)]
struct OpenFor {
    ino: InodeNo,
    opens: usize,
    /// Somebody looks until its attributes are leased.
    followed: bool,
}

/// An open for reading; the file is followed until this is dropped.
#[derive(Debug)]
pub struct Following {
    cache: Arc<Cache>,
    key: Key,
}

// === impl Growing ===

impl Growing {
    /// The attributes of a file are not known any more: if it is open for reading, the kernel looks how long
    /// it is until they are.
    pub fn follow(&self, key: Key) {
        let Some(cache) = self.cache.get().and_then(Weak::upgrade) else { return };
        let Some(ino) = self.begin(key) else { return };
        tokio::spawn(async move {
            let longest = PAUSES[PAUSES.len() - 1];
            for pause in PAUSES.into_iter().chain(std::iter::repeat(longest)) {
                tokio::time::sleep(pause).await;
                let (node, home) = key;
                if !cache.growing.is_open(key) {
                    return;
                }
                cache.pages.look_at(ino).await;
                // Before it is looked whether it is leased: who asks for the lease from now on is heard.
                cache.growing.rest(key);
                let known = cache.node(node);
                let leased = known.attr_if_held(since_boot(), home).is_some();
                // A node that grants nothing is not asked for ever.
                if leased || !known.is_granting() || cache.growing.begin(key).is_none() {
                    return;
                }
            }
        });
    }

    /// The attributes of all files of a node are not known any more.
    pub fn follow_all(&self, node: NodeId) {
        let open = self.open.lock();
        let of_node: Vec<Key> = open.keys().filter(|(home, _)| *home == node).copied().collect();
        drop(open);
        of_node.into_iter().for_each(|key| self.follow(key));
    }

    /// Whether somebody must begin to look, and at which number.
    fn begin(&self, key: Key) -> Option<InodeNo> {
        let mut open = self.open.lock();
        let file = open.get_mut(&key).filter(|file| !file.followed)?;
        file.followed = true;
        Some(file.ino)
    }

    /// Nobody looks for now.
    fn rest(&self, key: Key) {
        if let Some(file) = self.open.lock().get_mut(&key) {
            file.followed = false;
        }
    }

    fn is_open(&self, key: Key) -> bool {
        self.open.lock().contains_key(&key)
    }
}

// === impl Following ===

impl Following {
    /// One more open for reading.
    pub fn begin(cache: &Arc<Cache>, key: Key, ino: InodeNo) -> Self {
        let growing = &cache.growing;
        let _ = growing.cache.get_or_init(|| Arc::downgrade(cache));
        let mut open = growing.open.lock();
        open.entry(key).or_insert(OpenFor { ino, opens: 0, followed: false }).opens += 1;
        drop(open);
        Self { cache: Arc::clone(cache), key }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut open = self.cache.growing.open.lock();
        let Entry::Occupied(mut file) = open.entry(self.key) else { return };
        file.get_mut().opens -= 1;
        if file.get().opens == 0 {
            file.remove();
        }
    }
}

// === impl MountedFs ===

impl MountedFs {
    /// A file was opened for reading.
    pub(super) fn follow(&self, node: NodeId, home: InodeNo, ino: InodeNo) -> Following {
        let key = (node, home);
        let following = Following::begin(&self.cache, key, ino);
        let known = self.cache.node(node);
        if known.is_granting() && known.attr_if_held(since_boot(), home).is_none() {
            self.cache.growing.follow(key);
        }
        following
    }
}

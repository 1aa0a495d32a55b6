//! Texts and what was made of them, within a limit: what was not asked for longest goes first.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub(crate) struct Cache {
    limit: usize,
    bytes: usize,
    entries: HashMap<Arc<str>, Entry>,
    /// The texts by the time of their last use.
    order: BTreeMap<u64, Arc<str>>,
    now: u64,
}

struct Entry {
    html: Arc<str>,
    used: u64,
}

impl Cache {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            bytes: 0,
            entries: HashMap::new(),
            order: BTreeMap::new(),
            now: 0,
        }
    }

    pub(crate) fn get(&mut self, text: &str) -> Option<Arc<str>> {
        let entry = self.entries.get_mut(text)?;
        if let Some(text) = self.order.remove(&entry.used) {
            self.now += 1;
            entry.used = self.now;
            self.order.insert(self.now, text);
        }
        Some(Arc::clone(&entry.html))
    }

    /// Adds an entry, unless it would take the whole cache or another caller was faster.
    pub(crate) fn insert(&mut self, text: &str, html: Arc<str>) {
        let size = text.len() + html.len();
        if size > self.limit || self.entries.contains_key(text) {
            return;
        }
        while self.bytes + size > self.limit {
            let Some((_, oldest)) = self.order.pop_first() else {
                break;
            };
            if let Some(entry) = self.entries.remove(&oldest) {
                self.bytes -= oldest.len() + entry.html.len();
            }
        }
        self.now += 1;
        let text: Arc<str> = text.into();
        self.order.insert(self.now, Arc::clone(&text));
        let used = self.now;
        self.entries.insert(text, Entry { html, used });
        self.bytes += size;
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_asked_for_longest_goes_first() {
        let mut cache = Cache::new(8);
        cache.insert("a1", "A1".into());
        cache.insert("b1", "B1".into());
        assert!(cache.get("a1").is_some(), "now b1 is the older one");
        cache.insert("c1", "C1".into());
        assert_eq!(cache.get("b1"), None);
        assert_eq!(cache.get("a1").as_deref(), Some("A1"));
        assert_eq!(cache.get("c1").as_deref(), Some("C1"));
        assert_eq!((cache.len(), cache.bytes()), (2, 8));
    }

    #[test]
    fn the_limit_holds() {
        let mut cache = Cache::new(8);
        cache.insert("a1", "A1".into());
        cache.insert("larger", "than all".into());
        assert_eq!(cache.get("larger"), None);
        assert_eq!(
            (cache.len(), cache.bytes()),
            (1, 4),
            "nothing made room for it"
        );
        cache.insert("a1", "again".into());
        assert_eq!(cache.get("a1").as_deref(), Some("A1"));
        cache.insert("large", "one".into());
        assert_eq!((cache.len(), cache.bytes()), (1, 8));
        let mut none = Cache::new(0);
        none.insert("a", "A".into());
        assert_eq!((none.len(), none.bytes()), (0, 0));
    }
}

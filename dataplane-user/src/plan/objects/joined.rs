//! Two lists of things, joined by name.

use super::{Action, Attribute, ObjectChange, ObjectKind};
use netmodel::ids::TenantName;
use netmodel::model::Origin;

/// Attributes in words, by name.
pub(super) type Attributes = Vec<(String, String)>;

/// A thing of one model, with what it is known by.
pub(super) struct Item<'m, K, T> {
    pub(super) owner: Option<&'m TenantName>,
    pub(super) key: K,
    pub(super) thing: T,
}

/// How things of one kind are compared and told.
pub(super) struct Telling<'t, K, T> {
    pub(super) kind: ObjectKind,
    pub(super) name: &'t dyn Fn(&K) -> String,
    /// Are both the same, but for where they are said?
    pub(super) is_same: &'t dyn Fn(&T, &T) -> bool,
    /// Attributes as the model before says them, and as the one after does.
    pub(super) attributes: [&'t dyn Fn(&T) -> Attributes; 2],
    pub(super) origin: &'t dyn Fn(&T) -> Option<Origin>,
    /// Attributes that make it another thing when they change or go.
    pub(super) replacing: &'t [&'t str],
}

impl<K: Ord, T> Telling<'_, K, T> {
    /// Returns what is added, changed and removed, in order of owner and key.
    pub(super) fn compare<'m>(
        &self,
        mut old: Vec<Item<'m, K, T>>,
        mut new: Vec<Item<'m, K, T>>,
    ) -> Vec<ObjectChange> {
        // Models are in this order already, which makes sorting one look at each.
        old.sort_by(|a, b| (a.owner, &a.key).cmp(&(b.owner, &b.key)));
        new.sort_by(|a, b| (a.owner, &a.key).cmp(&(b.owner, &b.key)));
        let mut changes = Vec::new();
        let (mut old, mut new) = (old.as_slice(), new.as_slice());
        while let Some(first) = first(old, new) {
            let (before, after) = (same_key(old, first), same_key(new, first));
            let (olds, news);
            (olds, old) = old.split_at(before);
            (news, new) = new.split_at(after);
            self.compare_namesakes(olds, news, &mut changes);
        }
        changes
    }

    /// Things of one name: equal ones are left out, the others paired in order.
    fn compare_namesakes<'m>(
        &self,
        olds: &[Item<'m, K, T>],
        news: &[Item<'m, K, T>],
        changes: &mut Vec<ObjectChange>,
    ) {
        if let ([old], [new]) = (olds, news)
            && (self.is_same)(&old.thing, &new.thing)
        {
            return;
        }
        let mut news: Vec<&Item<'m, K, T>> = news.iter().collect();
        let mut left = Vec::new();
        for old in olds {
            let twin = news
                .iter()
                .position(|new| (self.is_same)(&old.thing, &new.thing));
            match twin {
                Some(i) => _ = news.remove(i),
                None => left.push(old),
            }
        }
        let count = left.len().max(news.len());
        changes.extend((0..count).map(|i| self.change(left.get(i).copied(), news.get(i).copied())));
    }

    fn change(&self, old: Option<&Item<'_, K, T>>, new: Option<&Item<'_, K, T>>) -> ObjectChange {
        let [before, after] = &self.attributes;
        let olds = old.map_or_else(Vec::new, |old| before(&old.thing));
        let news = new.map_or_else(Vec::new, |new| after(&new.thing));
        let attributes = changed(olds, news);
        let is_replaced = attributes.iter().any(|attribute| {
            self.replacing.contains(&attribute.name.as_str()) && attribute.old.is_some()
        });
        let action = match (old, new) {
            (None, _) => Action::Add,
            (_, None) => Action::Remove,
            _ if is_replaced => Action::Replace,
            _ => Action::Change,
        };
        let known = new.or(old);
        ObjectChange {
            action,
            kind: self.kind,
            owner: known.and_then(|item| item.owner.cloned()),
            name: known.map_or_else(String::new, |item| (self.name)(&item.key)),
            attributes,
            origin: known.and_then(|item| (self.origin)(&item.thing)),
        }
    }
}

type At<'i, 'm, K> = (Option<&'m TenantName>, &'i K);

fn first<'i, 'm, K: Ord, T>(
    old: &'i [Item<'m, K, T>],
    new: &'i [Item<'m, K, T>],
) -> Option<At<'i, 'm, K>> {
    let firsts = old.first().into_iter().chain(new.first());
    firsts.map(|item| (item.owner, &item.key)).min()
}

fn same_key<'m, K: Ord, T>(items: &[Item<'m, K, T>], first: At<'_, 'm, K>) -> usize {
    let same = items
        .iter()
        .take_while(|item| (item.owner, &item.key) == first);
    same.count()
}

/// Returns the attributes that differ; those of a new or removed thing are all of it.
fn changed(olds: Attributes, mut news: Attributes) -> Vec<Attribute> {
    let mut changed = Vec::new();
    for (name, old) in olds {
        let new = news.iter().position(|(other, _)| *other == name);
        let new = new.map(|i| news.remove(i).1);
        if new.as_ref() != Some(&old) {
            let old = Some(old);
            changed.push(Attribute { name, old, new });
        }
    }
    changed.extend(news.into_iter().map(|(name, new)| Attribute {
        name,
        old: None,
        new: Some(new),
    }));
    changed
}

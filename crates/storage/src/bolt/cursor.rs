//! The walk through a tree: from the root down to each leaf in turn.

use std::ops::Range;

use super::error::{PageDamage, ReadError};
use super::page::{Kind, Page, PageId};
use super::reader::{Reader, Source};

/// Levels of a tree. A branch has two elements or more, so that no real tree is that deep.
const LEVELS_MAX: usize = 64;

/// A place in a tree.
///
/// # Invariants
///
/// - The pages of the path do not overlap in the file.
/// - All keys of a page lie at or above its element in the branch over it, and below the next
///   element there. Together with the order inside of each page, all keys ascend.
#[derive(Debug)]
pub(super) struct Cursor<'r, S> {
    reader: &'r Reader<S>,
    /// From the root to where the walk is; empty when it is over.
    path: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    id: PageId,
    page: Page,
    /// The element to visit next.
    next: usize,
}

impl<'r, S: Source> Cursor<'r, S> {
    /// Begins at the root page that `parent` points to.
    pub(super) fn new(
        reader: &'r Reader<S>,
        parent: PageId,
        root: PageId,
    ) -> Result<Self, ReadError> {
        let page = reader.page(parent, root, |_| false)?;
        let cursor = Self::inside(reader, root, page);
        cursor.check_not_empty_branch(root)?;
        Ok(cursor)
    }

    /// Begins at a page that lies inside of page `id`, or is it.
    pub(super) fn inside(reader: &'r Reader<S>, id: PageId, page: Page) -> Self {
        let path = vec![Step { id, page, next: 0 }];
        Self { reader, path }
    }

    pub(super) fn reader(&self) -> &'r Reader<S> {
        self.reader
    }

    /// Where the page that the walk stands on begins, in bytes; 0 when the walk is over.
    fn page_offset(&self) -> u64 {
        self.path
            .last()
            .map_or(0, |step| self.reader.offset(step.id))
    }

    /// Steps to the next element of a leaf: the leaf's id, the leaf, and the index. None when the
    /// tree has no more. An error ends the walk.
    pub(super) fn advance(&mut self) -> Result<Option<(PageId, &Page, usize)>, ReadError> {
        while let Some(step) = self.path.last_mut() {
            let index = step.next;
            step.next += 1;
            if index >= step.page.count() {
                self.path.pop();
            } else if step.page.kind() == Kind::Branch {
                if let Err(error) = self.descend(index) {
                    self.path.clear();
                    return Err(error);
                }
            } else {
                break;
            }
        }
        Ok(self
            .path
            .last()
            .map(|leaf| (leaf.id, &leaf.page, leaf.next - 1)))
    }

    /// Enters the page below an element of the last page of the path.
    fn descend(&mut self, index: usize) -> Result<(), ReadError> {
        let Some(parent) = self.path.last() else {
            return Ok(());
        };
        if self.path.len() == LEVELS_MAX {
            return Err(self.reader.damaged(parent.id, PageDamage::Depth));
        }
        let id = parent.page.child(index);
        let on_the_way = |run: &Range<u64>| self.path.iter().any(|step| self.meets(step, run));
        let page = self.reader.page(parent.id, id, on_the_way)?;
        self.check_keys(id, &page, parent.page.key(index))?;
        self.path.push(Step { id, page, next: 0 });
        Ok(())
    }

    /// Whether a page of the path has one of these pages.
    fn meets(&self, step: &Step, run: &Range<u64>) -> bool {
        let start = step.id.0;
        let end = start + step.page.length() / u64::from(self.reader.page_bytes());
        start < run.end && run.start < end
    }

    /// Only a root may be empty, and its keys must lie where the branches above say.
    fn check_keys(&self, id: PageId, page: &Page, lowest: &[u8]) -> Result<(), ReadError> {
        let Some(last) = page.count().checked_sub(1) else {
            return Err(self.reader.damaged(id, PageDamage::Count(0)));
        };
        // Each step of the path has moved on already: its next element bounds what is below.
        let beyond = self
            .path
            .iter()
            .rev()
            .find(|step| step.next < step.page.count())
            .map(|step| step.page.key(step.next));
        if page.key(0) < lowest {
            return Err(self.reader.damaged(id, PageDamage::Key(0)));
        }
        if beyond.is_some_and(|beyond| page.key(last) >= beyond) {
            return Err(self.reader.damaged(id, PageDamage::Key(last)));
        }
        Ok(())
    }

    fn check_not_empty_branch(&self, root: PageId) -> Result<(), ReadError> {
        let empty = |step: &Step| step.page.kind() == Kind::Branch && step.page.count() == 0;
        if self.path.iter().any(empty) {
            return Err(self.reader.damaged(root, PageDamage::Count(0)));
        }
        Ok(())
    }
}

/// A key and its value.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

/// The pairs of a bucket in order. Not an `Iterator`, because each step may fail and lends the
/// bytes of the page it stands on.
#[derive(Debug)]
pub struct Pairs<'r, S> {
    cursor: Cursor<'r, S>,
}

impl<'r, S: Source> Pairs<'r, S> {
    pub(super) fn new(cursor: Cursor<'r, S>) -> Self {
        Self { cursor }
    }

    /// The next key and its value; none behind the last.
    ///
    /// # Errors
    ///
    /// [`ReadError::Damaged`], [`ReadError::Disk`]. The walk is over then.
    #[expect(
        clippy::should_implement_trait,
        reason = "each step may fail and lends from the page"
    )]
    pub fn next(&mut self) -> Result<Option<Pair<'_>>, ReadError> {
        let reader = self.cursor.reader();
        let Some((page, leaf, index)) = self.cursor.advance()? else {
            return Ok(None);
        };
        if leaf.is_bucket(index) {
            return Err(reader.damaged(page, PageDamage::ElementKind(index)));
        }
        Ok(Some((leaf.key(index), leaf.value(index))))
    }

    /// Where in the file the page of the pair given last begins, in bytes; 0 when there is none.
    #[must_use]
    pub fn page_offset(&self) -> u64 {
        self.cursor.page_offset()
    }
}

//! The thin layer over redb's tables that the table modules are written against: one type for
//! reading in any transaction, one for writing, and every engine error turned into ours here.

use std::borrow::Borrow;
use std::ops::RangeBounds;
use std::sync::atomic::AtomicBool;

use redb::{
    AccessGuard, Key, Range, ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata,
    Table, TableDefinition, TableHandle, Value, WriteTransaction,
};

use crate::error::{StorageError, failure};
use crate::record::{Record, decode};

/// Any transaction, to read from.
#[derive(Clone, Copy)]
pub(crate) struct Source<'t> {
    transaction: Transaction<'t>,
    failed: &'t AtomicBool,
}

#[derive(Clone, Copy)]
enum Transaction<'t> {
    Read(&'t ReadTransaction),
    Write(&'t WriteTransaction),
}

impl<'t> Source<'t> {
    pub(crate) fn new(transaction: &'t ReadTransaction, failed: &'t AtomicBool) -> Self {
        Self { transaction: Transaction::Read(transaction), failed }
    }

    /// Opens a table. In a write transaction redb lends a table once at a time, so a view must be
    /// gone before code that isn't ours runs: the table modules return owned records in pages.
    pub(crate) fn view<K: Key + 'static, V: Value + 'static>(
        self,
        definition: TableDefinition<'static, K, V>,
    ) -> Result<View<'t, K, V>, StorageError> {
        let opened = match self.transaction {
            Transaction::Read(tx) => tx.open_table(definition).map(Lent::Read),
            Transaction::Write(tx) => tx.open_table(definition).map(Lent::Write),
        };
        let lent =
            opened.map_err(|e| failure(self.failed, format!("open {}", definition.name()), e))?;
        Ok(View { lent, failed: self.failed, definition })
    }
}

/// A write transaction, to write to.
#[derive(Clone, Copy)]
pub(crate) struct Sink<'t> {
    transaction: &'t WriteTransaction,
    failed: &'t AtomicBool,
}

impl<'t> Sink<'t> {
    pub(crate) fn new(transaction: &'t WriteTransaction, failed: &'t AtomicBool) -> Self {
        Self { transaction, failed }
    }

    pub(crate) fn source(self) -> Source<'t> {
        Source { transaction: Transaction::Write(self.transaction), failed: self.failed }
    }

    /// Opens a table for writing.
    pub(crate) fn edit<K: Key + 'static, V: Value + 'static>(
        self,
        definition: TableDefinition<'static, K, V>,
    ) -> Result<Edit<'t, K, V>, StorageError> {
        let table = self
            .transaction
            .open_table(definition)
            .map_err(|e| failure(self.failed, format!("open {}", definition.name()), e))?;
        Ok(Edit { table, failed: self.failed, definition })
    }
}

enum Lent<'t, K: Key + 'static, V: Value + 'static> {
    Read(ReadOnlyTable<K, V>),
    Write(Table<'t, K, V>),
}

/// A table to read from.
pub(crate) struct View<'t, K: Key + 'static, V: Value + 'static> {
    lent: Lent<'t, K, V>,
    failed: &'t AtomicBool,
    definition: TableDefinition<'static, K, V>,
}

impl<'t, K: Key + 'static, V: Value + 'static> View<'t, K, V> {
    pub(crate) fn get<'a>(
        &self,
        key: impl Borrow<K::SelfType<'a>>,
    ) -> Result<Option<AccessGuard<'_, V>>, StorageError> {
        match &self.lent {
            Lent::Read(table) => ReadableTable::get(table, key),
            Lent::Write(table) => table.get(key),
        }
        .map_err(|error| self.error(error))
    }

    pub(crate) fn range<'a, KR>(
        &self,
        range: impl RangeBounds<KR> + 'a,
    ) -> Result<Rows<'_, 't, K, V>, StorageError>
    where
        KR: Borrow<K::SelfType<'a>> + 'a,
    {
        let rows = match &self.lent {
            Lent::Read(table) => ReadableTable::range(table, range),
            Lent::Write(table) => table.range(range),
        }
        .map_err(|error| self.error(error))?;
        Ok(Rows { rows, view: self })
    }

    pub(crate) fn all(&self) -> Result<Rows<'_, 't, K, V>, StorageError> {
        let rows = match &self.lent {
            Lent::Read(table) => table.iter(),
            Lent::Write(table) => table.iter(),
        }
        .map_err(|error| self.error(error))?;
        Ok(Rows { rows, view: self })
    }

    pub(crate) fn len(&self) -> Result<u64, StorageError> {
        match &self.lent {
            Lent::Read(table) => table.len(),
            Lent::Write(table) => table.len(),
        }
        .map_err(|error| self.error(error))
    }

    fn error(&self, error: redb::StorageError) -> StorageError {
        failure(self.failed, format!("read {}", self.definition.name()), error)
    }
}

impl View<'_, &'static str, &'static [u8]> {
    /// The records whose keys begin with `prefix`, at most `limit`, in key order.
    pub(crate) fn with_prefix<R: Record>(
        &self,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<R>, StorageError> {
        let mut found = Vec::new();
        for row in self.range(prefix..)?.take(limit) {
            let (key, value) = row?;
            if !key.value().starts_with(prefix) {
                break;
            }
            found.push(decode(&key.value(), value.value())?);
        }
        Ok(found)
    }

    /// Of the records that are wanted, at most `limit`, those with the last keys first.
    pub(crate) fn last<R: Record>(
        &self,
        limit: usize,
        wanted: impl Fn(&R) -> bool,
    ) -> Result<Vec<R>, StorageError> {
        let mut found = Vec::new();
        for row in self.all()?.rev() {
            if found.len() >= limit {
                break;
            }
            let (key, value) = row?;
            let record = decode(&key.value(), value.value())?;
            if wanted(&record) {
                found.push(record);
            }
        }
        Ok(found)
    }
}

/// Rows of a [`View`], in key order from both ends.
pub(crate) struct Rows<'v, 't, K: Key + 'static, V: Value + 'static> {
    rows: Range<'v, K, V>,
    view: &'v View<'t, K, V>,
}

type Row<'v, K, V> = Result<(AccessGuard<'v, K>, AccessGuard<'v, V>), StorageError>;

impl<'v, K: Key + 'static, V: Value + 'static> Iterator for Rows<'v, '_, K, V> {
    type Item = Row<'v, K, V>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next().map(|row| row.map_err(|error| self.view.error(error)))
    }
}

impl<K: Key + 'static, V: Value + 'static> DoubleEndedIterator for Rows<'_, '_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.rows.next_back().map(|row| row.map_err(|error| self.view.error(error)))
    }
}

/// A table to write to.
pub(crate) struct Edit<'t, K: Key + 'static, V: Value + 'static> {
    table: Table<'t, K, V>,
    failed: &'t AtomicBool,
    definition: TableDefinition<'static, K, V>,
}

impl<K: Key + 'static, V: Value + 'static> Edit<'_, K, V> {
    pub(crate) fn get<'a>(
        &self,
        key: impl Borrow<K::SelfType<'a>>,
    ) -> Result<Option<AccessGuard<'_, V>>, StorageError> {
        self.table
            .get(key)
            .map_err(|e| failure(self.failed, format!("read {}", self.definition.name()), e))
    }

    /// Inserts or replaces.
    pub(crate) fn insert<'k, 'v>(
        &mut self,
        key: impl Borrow<K::SelfType<'k>>,
        value: impl Borrow<V::SelfType<'v>>,
    ) -> Result<(), StorageError> {
        let inserted = self.table.insert(key, value).map(drop);
        inserted.map_err(|error| self.error(error))
    }

    /// Removes; whether there was something to remove.
    pub(crate) fn remove<'a>(
        &mut self,
        key: impl Borrow<K::SelfType<'a>>,
    ) -> Result<bool, StorageError> {
        let removed = self.table.remove(key).map(|old| old.is_some());
        removed.map_err(|error| self.error(error))
    }

    /// Removes all of a range; returns how many.
    pub(crate) fn remove_range<'a, KR>(
        &mut self,
        range: impl RangeBounds<KR> + 'a,
    ) -> Result<u64, StorageError>
    where
        KR: Borrow<K::SelfType<'a>> + 'a,
    {
        let mut removed = 0;
        let result = self.table.retain_in(range, |_, _| {
            removed += 1;
            false
        });
        result.map_err(|error| self.error(error))?;
        Ok(removed)
    }

    fn error(&self, error: redb::StorageError) -> StorageError {
        failure(self.failed, format!("write {}", self.definition.name()), error)
    }
}

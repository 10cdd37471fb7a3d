//! The databases, certificates and sources of backups that other sections mean by name, as far as those need to know them
//! before their own section is read.

use genesis_storage::BackupLevel;
use toml::de::{DeTable, DeValue};

/// A database of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedDatabase {
    /// Its name.
    pub name: String,
    /// It is one of PostgreSQL.
    pub postgres: bool,
    /// A PgBouncer is before it.
    pub pooler: bool,
    /// How deep a backup of it must be verified.
    pub backup_level: BackupLevel,
}

fn get<'v>(table: &'v DeTable<'_>, key: &str) -> Option<&'v DeValue<'v>> {
    table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value.get_ref())
}

/// The names of the certificates of a text, whatever else is wrong with them.
pub fn certificates(text: &DeTable<'_>) -> Vec<String> {
    let section = get(text, "certificates").and_then(|value| value.as_table());
    let entries = section.and_then(|table| get(table, "certificate")?.as_array());
    let name = |item: &DeTable<'_>| get(item, "name")?.as_str().map(str::to_owned);
    let tables = entries.into_iter().flat_map(|array| array.iter());
    tables.filter_map(|item| name(item.get_ref().as_table()?)).collect()
}

/// Those of a text, whatever else is wrong with their section: that is said where it is read.
pub fn databases(text: &DeTable<'_>) -> Vec<NamedDatabase> {
    let section = get(text, "database").and_then(|value| value.as_table());
    let instances = section.and_then(|table| get(table, "instance")?.as_array());
    let read = |table: &DeTable<'_>| {
        let text = |key: &str| get(table, key).and_then(|value| value.as_str()).unwrap_or_default();
        let level = BackupLevel::parse(text("backup_min_level"));
        (!text("name").is_empty()).then(|| NamedDatabase {
            name: text("name").to_owned(),
            postgres: !text("url").starts_with("sqlite:"),
            pooler: !text("pgbouncer").is_empty(),
            backup_level: level.unwrap_or(BackupLevel::Checksums),
        })
    };
    let tables = instances.into_iter().flat_map(|array| array.iter());
    tables.filter_map(|item| read(item.get_ref().as_table()?)).collect()
}

/// A source of backups of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedSource {
    /// Its name: a database's, or "agent".
    pub name: String,
    /// The agent restores its backups into a scratch instance.
    pub restorable: bool,
}

/// The sources of backups of a text: every database and the agent itself, unless the text says that one is not backed up.
pub fn sources(text: &DeTable<'_>) -> Vec<NamedSource> {
    let section = get(text, "backup").and_then(|value| value.as_table());
    let entries = section.and_then(|table| get(table, "source")?.as_array());
    let entries = || {
        let tables = entries.into_iter().flat_map(|array| array.iter());
        tables.filter_map(|item| item.get_ref().as_table())
    };
    let databases = databases(text).into_iter().map(|database| database.name);
    let source = |name: String| {
        let said = |key: &str| {
            let own = |entry: &&DeTable<'_>| {
                get(entry, "name").and_then(|value| value.as_str()) == Some(name.as_str())
            };
            entries().find(own).and_then(|entry| get(entry, key))
        };
        let enabled = said("enabled").and_then(|value| value.as_bool()).unwrap_or(true);
        let tool = said("tool").and_then(|value| value.as_str());
        let restorable = tool != Some("wal-g");
        enabled.then_some(NamedSource { name, restorable })
    };
    databases.chain(["agent".to_owned()]).filter_map(source).collect()
}

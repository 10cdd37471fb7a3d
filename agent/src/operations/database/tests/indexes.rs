//! What is advised about indexes.

use jiff::{SignedDuration, Timestamp};

use super::{index, instance};
use crate::operations::database::indexes::advise;
use crate::outside::database::facts::{Index, Invalid};

fn told(
    indexes: &[Index],
    invalid: &[Invalid],
    days: Option<i64>,
) -> Vec<(String, String, String)> {
    let now: Timestamp = "2026-11-22T03:00:00Z".parse().unwrap();
    let since = days.map(|days| now - SignedDuration::from_hours(24 * days));
    let advice = advise(indexes, invalid, &instance("").bloat, (since, false), now);
    advice.into_iter().map(|it| (format!("{} {}", it.kind, it.index), it.sql, it.caution)).collect()
}

#[test]
fn unused_indexes_are_told_and_those_that_keep_rows_apart_are_not() {
    let mut unique = index(2, 100, 0.0);
    unique.unique = true;
    let mut constraint = index(3, 100, 0.0);
    constraint.constraint = true;
    let mut used = index(4, 100, 0.0);
    used.scans = 1;
    let mut key = index(5, 90, 0.0);
    key.supports_key = true;
    let indexes = [index(1, 100, 0.0), unique, constraint, used, key];
    let advice = told(&indexes, &[], Some(31));
    assert_eq!(advice.len(), 2, "{advice:?}");
    assert_eq!(advice[0].0, "unused \"public\".\"i1\"");
    assert_eq!(advice[0].1, "DROP INDEX CONCURRENTLY \"public\".\"i1\";");
    assert_eq!(advice[0].2, "");
    assert!(advice[1].2.contains("foreign key"), "{advice:?}");
    for days in [Some(29), None] {
        assert!(told(&indexes, &[], days)[0].2.contains("less than 30 days"));
    }
}

#[test]
fn of_two_alike_the_one_that_does_less_is_to_go() {
    let mut one = index(1, 100, 0.0);
    let mut two = index(2, 100, 0.0);
    (one.scans, two.scans) = (5, 5);
    two.definition.clone_from(&one.definition);
    assert_eq!(
        told(&[one.clone(), two.clone()], &[], Some(31))[0].0,
        "duplicate \"public\".\"i2\""
    );
    two.unique = true;
    assert_eq!(
        told(&[one.clone(), two.clone()], &[], Some(31))[0].0,
        "duplicate \"public\".\"i1\""
    );
    one.constraint = true;
    let both = told(&[one, two], &[], Some(31));
    assert_eq!(
        (both[0].0.as_str(), both[0].2.as_str()),
        ("duplicate \"public\".\"i2\"", "it keeps rows apart")
    );
}

#[test]
fn bloat_and_what_is_broken_come_with_their_sql() {
    let mut bloated = index(1, 20 << 20, 0.5);
    bloated.scans = 1;
    let advice = told(&[bloated.clone()], &[], None);
    assert_eq!(advice[0].1, "REINDEX INDEX CONCURRENTLY \"public\".\"i1\";");
    bloated.bytes = 1 << 20;
    assert_eq!(told(&[bloated], &[], None), []);
    let mut broken = index(2, 100, 0.9);
    broken.valid = false;
    let mut left = index(3, 100, 0.9);
    (left.valid, left.name) = (false, "i2_ccnew".into());
    let invalid = |index: &Index, building| Invalid {
        oid: index.oid,
        schema: index.schema.clone(),
        name: index.name.clone(),
        table: 1,
        building,
    };
    let list = [invalid(&broken, false), invalid(&left, false)];
    let advice = told(&[broken.clone(), left], &list, None);
    let kinds: Vec<&str> = advice.iter().map(|it| it.0.as_str()).collect();
    assert_eq!(kinds, ["leftover \"public\".\"i2_ccnew\"", "invalid \"public\".\"i2\""]);
    assert_eq!(told(&[broken.clone()], &[invalid(&broken, true)], None), [], "it is being built");
}

#[test]
fn what_replicas_or_a_partitioned_table_may_need_is_not_called_free() {
    let now: Timestamp = "2026-11-22T03:00:00Z".parse().unwrap();
    let since = Some(now - SignedDuration::from_hours(24 * 90));
    let advised =
        |index, replicas| advise(&[index], &[], &instance("").bloat, (since, replicas), now);
    let advice = advised(index(1, 100, 0.0), true);
    assert!(advice[0].caution.contains("replicas"), "{advice:?}");
    assert_eq!(advised(index(1, 100, 0.0), false)[0].caution, "");
    assert_eq!(advised(Index { attached: true, ..index(1, 100, 0.0) }, false), []);
}

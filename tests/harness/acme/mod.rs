//! What certificates come from, for tests: a real ACME server, a proxy before it that goes wrong as public ones do, and
//! a real name server that takes signed updates.

mod answers;
pub mod bind9;
pub mod challtestsrv;
pub mod faults;
pub mod fetch;
pub mod pebble;
pub mod proxy;

pub use bind9::Bind9;
pub use challtestsrv::Challtestsrv;
pub use faults::{Fault, Kind, RetryAfter};
pub use pebble::Pebble;
pub use proxy::{FaultProxy, RenewalInfo, Seen};

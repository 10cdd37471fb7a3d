//! Many certificates at once, at a CA that refuses every other nonce.

use std::time::Duration;

use genesis_tests::TestAgent;
use genesis_tests::acme::Pebble;
use genesis_tests::certificates::{certificate, pebble};
use genesis_tests::clock::wait_until_within;

const COUNT: usize = 50;

fn all_are_issued(authz_reuse: u8) {
    let server = Pebble::options().nonce_reject(50).authz_reuse(authz_reuse).start();
    let each = (0..COUNT).map(|number| {
        certificate(&server, &format!("c{number}"), &[&format!("c{number}.example.test")], "")
    });
    let text = pebble(&server, "") + &each.collect::<String>();
    let agent = TestAgent::started(|_| text);
    let deployed = || {
        let listed = agent.ctl(&["cert", "list", "-o", "json"]).response();
        let all = listed["certificates"].as_array().cloned().unwrap_or_default();
        all.iter().filter(|it| it["state"] == "CERTIFICATE_STATE_DEPLOYED").count()
    };
    wait_until_within(Duration::from_secs(150), "all of them", || {
        std::thread::sleep(Duration::from_millis(500));
        deployed() == COUNT
    });
    assert_eq!((server.orders(), server.issued().len()), (COUNT, COUNT));
    assert_eq!(server.accounts(), 1);
    agent.ctl(&["oplog", "verify"]).ok().says(&["intact"]);
}

#[test]
fn fifty_at_once_are_one_order_each_though_every_other_nonce_is_refused() {
    all_are_issued(0);
}

#[test]
fn fifty_at_once_are_one_order_each_also_where_authorizations_are_there_already() {
    all_are_issued(100);
}

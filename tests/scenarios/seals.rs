//! The embedded files of an agent that was stopped in order are believed at the next start, all others are proven.

use std::fs;

use genesis_tests::{Ballast, LoopDisk, TestAgent, source};

fn plain() -> TestAgent {
    TestAgent::new(|log| source("trading", &log.join("t.log"), "1MB"))
}

/// Which of the embedded files are marked as proven and closed, and how many there are.
fn sealed(agent: &TestAgent) -> (usize, usize) {
    let files: Vec<_> = fs::read_dir(agent.state())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "redb"))
        .collect();
    let marked = files.iter().filter(|path| {
        let mut seal = [0_u8; 512];
        rustix::fs::getxattr(path.as_path(), "user.genesis.proven", &mut seal[..]).is_ok()
    });
    (marked.count(), files.len())
}

#[test]
fn an_agent_that_is_stopped_closes_its_files_so_that_the_next_one_need_not_prove_them() {
    let mut agent = plain();
    agent.start();
    assert_eq!(sealed(&agent), (0, 5));
    let (ended, _) = agent.terminate();
    assert_eq!(ended.code, Some(0));
    assert_eq!(sealed(&agent), (5, 5));
    agent.start();
    agent.ctl(&["oplog", "verify"]).ok();
    // It writes to its state as it starts: what it has written there is not what was sealed.
    agent.kill();
    agent.start();
    agent.ctl(&["oplog", "verify"]).ok();
}

/// On a small ext4 the mark does not fit into a file's inode, so that it wants a block, and there is none.
#[test]
fn what_could_not_be_marked_for_want_of_room_is_proven_by_the_next_start_and_nothing_is_lost() {
    let mut agent = plain();
    fs::create_dir_all(agent.state()).unwrap();
    let disk = LoopDisk::ext4_at(64, &agent.state());
    agent.start();
    agent.ctl(&["oplog", "note", "before the disk was full"]).ok();
    let ballast = Ballast::fill(disk.join("ballast"));
    agent.terminate();
    let (marked, files) = sealed(&agent);
    assert!(marked < files, "{marked} of {files} were marked: the disk had room");
    ballast.release();
    agent.start();
    agent.ctl(&["oplog", "verify"]).ok().says(&["intact"]);
    agent.ctl(&["oplog", "list"]).ok().says(&["before the disk was full"]);
    let (ended, _) = agent.terminate();
    assert_eq!(ended.code, Some(0));
    assert_eq!(sealed(&agent), (5, 5));
    drop(agent);
    drop(disk);
}

//! Single questions to single name servers, over TCP; over UDP where that is not to be had. By hand and not by
//! hickory-net's client: an answer has to be read also when its signature does not fit, since it then says why.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType, TSigner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// A question is answered within this.
const ANSWER: Duration = Duration::from_secs(3);
/// An update is carried out within this.
const UPDATE: Duration = Duration::from_secs(10);
/// A chain of aliases is no longer.
pub(super) const ALIASES: usize = 8;

/// A name as it is written, with or without the dot at its end.
///
/// # Errors
/// When it is none.
pub(super) fn name(text: &str) -> Result<Name, String> {
    let mut name = Name::from_ascii(text).map_err(|error| format!("{text:?}: {error}"))?;
    name.set_fqdn(true);
    Ok(name)
}

/// What a server answers to a question. That there is no such name is an answer.
///
/// # Errors
/// When it does not answer, or refuses.
pub(super) async fn ask(
    server: SocketAddr,
    name: &Name,
    kind: RecordType,
) -> Result<Message, String> {
    let mut message = Message::query();
    message.add_query(Query::query(name.clone(), kind));
    message.metadata.recursion_desired = true;
    let answer = match exchanged(server, &message, ANSWER).await {
        Ok(bytes) => parsed(&bytes)?,
        Err(_) => {
            let asked = tokio::time::timeout(ANSWER, over_udp(server, &message)).await;
            let bytes = asked.map_err(|_| format!("{server} does not answer"))?;
            parsed(&bytes.map_err(|error| format!("{server} does not answer: {error}"))?)?
        }
    };
    match answer.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(answer),
        code => Err(format!("{server} says {code} to a question for {name}")),
    }
}

/// Has a server carry out a signed update; `now` in seconds since the epoch.
///
/// # Errors
/// When it does not, with what it says.
pub(super) async fn update(
    server: SocketAddr,
    mut message: Message,
    signer: &TSigner,
    now: u64,
) -> Result<(), String> {
    let verifier = message.finalize(signer, now).map_err(|error| error.to_string())?;
    let sent = exchanged(server, &message, UPDATE).await;
    let bytes = sent.map_err(|error| format!("{server} does not answer: {error}"))?;
    let answer = parsed(&bytes)?;
    let refused = answer.signature().and_then(|tsig| tsig.data.error);
    match (answer.response_code, refused) {
        (ResponseCode::NoError, None) => {}
        (_, Some(error)) => return Err(format!("{server} refuses the key: {error:?}")),
        (code, None) => return Err(format!("{server} refuses the update: {code}")),
    }
    // Somebody in between could say anything.
    let Some(mut verifier) = verifier else { return Ok(()) };
    let verified = verifier.verify(&bytes);
    verified.map(drop).map_err(|_| format!("{server}: the answer's signature does not fit"))
}

/// An update of a zone; what changes is still to be added.
pub(super) fn update_of(zone: &Name) -> Message {
    let mut message = Message::query();
    message.metadata.op_code = OpCode::Update;
    message.metadata.recursion_desired = false;
    message.add_query(Query::query(zone.clone(), RecordType::SOA));
    message
}

/// Whether an answer holds this TXT.
pub(super) fn holds(answer: &Message, value: &str) -> bool {
    answer.answers.iter().any(|record| match &record.data {
        RData::TXT(text) => text.txt_data.concat() == value.as_bytes(),
        _ => false,
    })
}

/// Where a name leads to by the aliases of an answer.
pub(super) fn followed(records: &[Record], name: &Name) -> Name {
    let mut at = name.clone();
    for _ in 0..ALIASES {
        let next = records.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == at => Some(target.0.clone()),
            _ => None,
        });
        match next {
            Some(next) => at = next,
            None => break,
        }
    }
    at
}

/// The zone that an answer to a question for a SOA says `name` is in: the owner of that record, above it.
pub(super) fn zone_in(answer: &Message, name: &Name) -> Option<Name> {
    let records = answer.answers.iter().chain(&answer.authorities);
    let owners = records.filter(|record| record.record_type() == RecordType::SOA);
    // Nobody updates the root, or the top: who answers so is no server of the zone.
    owners
        .map(|record| &record.name)
        .find(|owner| owner.num_labels() >= 1 && owner.zone_of(name))
        .cloned()
}

fn parsed(bytes: &[u8]) -> Result<Message, String> {
    Message::from_vec(bytes).map_err(|error| format!("its answer makes no sense: {error}"))
}

async fn exchanged(server: SocketAddr, message: &Message, limit: Duration) -> io::Result<Vec<u8>> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    tokio::time::timeout(limit, over_tcp(server, message)).await.map_err(late)?
}

async fn over_tcp(server: SocketAddr, message: &Message) -> io::Result<Vec<u8>> {
    let bytes = message.to_vec().map_err(io::Error::other)?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut stream = TcpStream::connect(server).await?;
    // In one piece: some servers read no further than the first.
    stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    fits(&answer, message).then_some(answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

async fn over_udp(server: SocketAddr, message: &Message) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0; 16], 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(&message.to_vec().map_err(io::Error::other)?).await?;
    let mut answer = vec![0; 4 << 10];
    loop {
        let length = socket.recv(&mut answer).await?;
        // Others may send here as well.
        if fits(&answer[..length], message) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

/// Whether it answers this very message.
fn fits(answer: &[u8], message: &Message) -> bool {
    answer.len() >= 12 && answer[..2] == message.id.to_be_bytes() && answer[2] & 0x80 != 0
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::{CNAME, SOA, TXT};

    use super::*;

    fn record(owner: &str, data: RData) -> Record {
        Record::from_rdata(name(owner).unwrap(), 60, data)
    }

    fn alias(owner: &str, target: &str) -> Record {
        record(owner, RData::CNAME(CNAME(name(target).unwrap())))
    }

    #[test]
    fn aliases_are_followed_and_a_ring_of_them_ends() {
        let chain = [alias("b.x", "c.y"), alias("a.x", "b.x"), alias("o.x", "o.x")];
        for (from, to) in [("a.x", "c.y"), ("b.x", "c.y"), ("z.x", "z.x"), ("o.x", "o.x")] {
            assert_eq!(followed(&chain, &name(from).unwrap()), name(to).unwrap());
        }
        assert_eq!(followed(&chain, &name("A.X").unwrap()), name("c.y").unwrap());
    }

    #[test]
    fn the_zone_is_whose_soa_comes_back() {
        let of = |owner: &str, answered: bool| {
            let at = || name("x").unwrap();
            let soa = record(owner, RData::SOA(SOA::new(at(), at(), 1, 1, 1, 1, 1)));
            let mut message = Message::query();
            if answered {
                message.add_answer(soa)
            } else {
                message.add_authority(soa)
            };
            zone_in(&message, &name("_acme-challenge.a.example.com").unwrap())
        };
        assert_eq!(of("example.com", true), Some(name("example.com").unwrap()));
        assert_eq!(of("a.example.com", false), Some(name("a.example.com").unwrap()));
        assert_eq!(of(".", false), None, "the root");
        assert_eq!(of("example.org", false), None, "somebody else's");
        assert_eq!(zone_in(&Message::query(), &name("a.b").unwrap()), None);
    }

    #[test]
    fn a_value_is_found_among_others_also_in_pieces() {
        let mut message = Message::query();
        for pieces in [vec!["other"], vec!["ab", "cd"]] {
            let pieces = pieces.into_iter().map(str::to_owned).collect();
            message.add_answer(record("a.b", RData::TXT(TXT::new(pieces))));
        }
        assert!(holds(&message, "abcd") && holds(&message, "other"));
        assert!(!holds(&message, "ab") && !holds(&message, ""));
    }
}

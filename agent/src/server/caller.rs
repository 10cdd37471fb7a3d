//! Who is calling: the identity behind a connection, and the role it gives.

use std::path::Path;

use genesis_proto::v1::Role;
use tonic::{Request, Status};

use crate::error::{Error, Kind};
use crate::server::connection::{Peer, Who};
use crate::server::status::to_status;
use crate::server::tls::identity::CertificateIdentity;

/// The longest reason that is kept, in bytes.
const REASON_LIMIT: usize = 1_024;

/// An identity with its role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Such as "unix:uid=0(root)".
    pub identity: String,
    /// What it may do; `None`: nothing.
    pub role: Option<Role>,
    /// "unix" or "tcp".
    pub transport: &'static str,
    /// The rule that gave the role.
    pub granted_by: String,
    /// The certificate is of another fleet, which is why there is no role.
    pub other_fleet: bool,
    /// Why, as the caller says.
    pub reason: String,
}

impl Caller {
    /// Who it is, wherever it connects from: an address without its port.
    pub fn source(&self) -> &str {
        match self.transport {
            "tcp" | "tls" if !self.identity.starts_with("cert:") => {
                self.identity.rsplit_once(':').map_or(self.identity.as_str(), |(host, _)| host)
            }
            _ => &self.identity,
        }
    }
}

/// What roles are given by.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The agent's own user.
    pub own_uid: u32,
    /// Members may operate; empty: no group.
    pub operator_group: String,
    /// Certificates must be of this fleet.
    pub fleet: String,
}

/// A user's groups, as far as the role depends on them.
pub trait Groups {
    /// Whether the user is a member of the group, or has it as the primary one.
    fn is_member(&self, uid: u32, gid: u32, group: &str) -> bool;
    /// The user's name.
    fn user_name(&self, uid: u32) -> Option<String>;
}

/// The files /etc/passwd and /etc/group.
pub struct SystemGroups;

impl Groups for SystemGroups {
    fn is_member(&self, uid: u32, gid: u32, group: &str) -> bool {
        let name = self.user_name(uid);
        let text = std::fs::read_to_string("/etc/group").unwrap_or_default();
        text.lines().any(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [known, _, id, members] = fields.as_slice() else { return false };
            let listed =
                name.as_deref().is_some_and(|name| members.split(',').any(|member| member == name));
            *known == group && (id.parse() == Ok(gid) || listed)
        })
    }

    fn user_name(&self, uid: u32) -> Option<String> {
        let text = std::fs::read_to_string(Path::new("/etc/passwd")).ok()?;
        text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
        })
    }
}

impl Rules {
    /// The role of a peer of the socket: root and the agent's own user are admins, members of the
    /// configured group are operators, others have none.
    pub fn peer(&self, uid: u32, gid: u32, groups: &impl Groups) -> Caller {
        let name = groups.user_name(uid).map_or_else(String::new, |name| format!("({name})"));
        let (role, granted_by) = if uid == 0 {
            (Some(Role::Admin), "root".to_owned())
        } else if uid == self.own_uid {
            (Some(Role::Admin), "the agent's own user".to_owned())
        } else if !self.operator_group.is_empty()
            && groups.is_member(uid, gid, &self.operator_group)
        {
            (Some(Role::Operator), format!("member of group {}", self.operator_group))
        } else {
            (None, "no rule".to_owned())
        };
        Caller {
            identity: format!("unix:uid={uid}{name}"),
            role,
            transport: "unix",
            granted_by,
            other_fleet: false,
            reason: String::new(),
        }
    }

    /// The caller behind a request's connection.
    pub fn identify(&self, peer: Option<&Peer>) -> Caller {
        let Some(peer) = peer else { return nobody("unknown", "no rule") };
        match &peer.who {
            Who::Unix(Some((uid, gid))) => self.peer(*uid, *gid, &SystemGroups),
            Who::Unix(None) => nobody("unix", "no rule"),
            Who::Plaintext(address) if address.ip().is_loopback() => Caller {
                identity: format!("tcp:{address}"),
                role: Some(Role::Viewer),
                transport: "tcp",
                granted_by: "plaintext loopback".into(),
                other_fleet: false,
                reason: String::new(),
            },
            Who::Plaintext(_) => nobody("tcp", "no rule"),
            Who::Certificate(_, Ok(identity)) => self.certificate(identity),
            Who::Certificate(address, Err(why)) => Caller {
                identity: format!("tls:{address}"),
                ..nobody("tls", &format!("no rule: {why}"))
            },
        }
    }

    fn certificate(&self, identity: &CertificateIdentity) -> Caller {
        let other_fleet = identity.fleet != self.fleet;
        let (role, granted_by) = if other_fleet {
            let other = &identity.fleet;
            (None, format!("a certificate of fleet {other}, this host is of {}", self.fleet))
        } else if identity.role.is_none() {
            (None, "no rule: a certificate without a client's role".into())
        } else {
            (identity.role, "client certificate".into())
        };
        let identity = format!("cert:{}", identity.uri);
        Caller { identity, role, transport: "tls", granted_by, other_fleet, reason: String::new() }
    }
}

fn nobody(transport: &'static str, why: &str) -> Caller {
    Caller {
        identity: format!("{transport}:unknown"),
        role: None,
        transport,
        granted_by: why.to_owned(),
        other_fleet: false,
        reason: String::new(),
    }
}

/// Takes over the reason that the caller gave, without control characters and held to a kilobyte.
pub fn reason_of(headers: &http::HeaderMap) -> String {
    let text = headers
        .get("genesis-reason")
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let mut reason: String =
        text.unwrap_or_default().chars().filter(|character| !character.is_control()).collect();
    while reason.len() > REASON_LIMIT {
        reason.pop();
    }
    reason
}

/// The caller that the authorisation layer has put beside a request.
///
/// # Errors
/// PERMISSION_DENIED when there is none, which means that the layer was left out.
#[allow(clippy::result_large_err)] // Status is what every rpc returns.
pub fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    request.extensions().get::<Caller>().cloned().ok_or_else(|| {
        to_status(Error::new(
            Kind::NotAllowed,
            "NOT_IDENTIFIED",
            "the call was not identified; this is a defect",
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Groups for Fixed {
        fn is_member(&self, uid: u32, gid: u32, group: &str) -> bool {
            group == "ops" && (uid == 1001 || gid == 50)
        }

        fn user_name(&self, uid: u32) -> Option<String> {
            (uid == 1001).then(|| "olga".into())
        }
    }

    fn rules(group: &str) -> Rules {
        Rules { own_uid: 990, operator_group: group.into(), fleet: "prod".into() }
    }

    #[test]
    fn certificate_roles() {
        for (uri, role, expected) in [
            ("genesis://prod/viewer/x", Some(Role::Viewer), Some(Role::Viewer)),
            ("genesis://prod/admin/x", Some(Role::Admin), Some(Role::Admin)),
            ("genesis://prod/agent/x", None, None),
            ("genesis://other/admin/x", Some(Role::Admin), None),
        ] {
            let fleet = uri.split('/').nth(2).unwrap().to_owned();
            let identity = CertificateIdentity { uri: uri.into(), fleet, role };
            let caller = rules("").certificate(&identity);
            assert_eq!((caller.role, caller.identity), (expected, format!("cert:{uri}")), "{uri}");
        }
    }

    #[test]
    fn socket_roles() {
        let with = rules;
        let cases = [
            (0, 0, "ops", Some(Role::Admin)),
            (990, 990, "ops", Some(Role::Admin)),
            (1001, 1001, "ops", Some(Role::Operator)),
            (1002, 50, "ops", Some(Role::Operator)),
            (1002, 1002, "ops", None),
            (1001, 1001, "", None),
        ];
        for (uid, gid, group, expected) in cases {
            assert_eq!(
                with(group).peer(uid, gid, &Fixed).role,
                expected,
                "uid {uid} gid {gid} group {group:?}"
            );
        }
        assert_eq!(with("ops").peer(1001, 1001, &Fixed).identity, "unix:uid=1001(olga)");
    }

    #[test]
    fn reasons_are_cleaned_and_bounded() {
        let mut headers = http::HeaderMap::new();
        headers.insert("genesis-reason", http::HeaderValue::from_bytes(b"a\tb\xff").unwrap());
        assert_eq!(reason_of(&headers), "ab\u{fffd}");
        headers.insert("genesis-reason", http::HeaderValue::from_str(&"x".repeat(5_000)).unwrap());
        assert_eq!(reason_of(&headers).len(), REASON_LIMIT);
    }
}

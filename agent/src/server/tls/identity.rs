//! Who a client's certificate says it is: `genesis://<fleet>/<role>/<name>` among its subject alternative names.

use genesis_proto::v1::Role;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The identity of a client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateIdentity {
    /// The whole URI.
    pub uri: String,
    /// The fleet it is for.
    pub fleet: String,
    /// What it may do; `None`: it is not a role of clients.
    pub role: Option<Role>,
}

/// Reads the identity from a certificate that TLS has already checked.
///
/// # Errors
/// Why it names none, or more than one.
pub fn read(der: &[u8]) -> Result<CertificateIdentity, String> {
    let (_, certificate) = X509Certificate::from_der(der)
        .map_err(|error| format!("the certificate can't be read: {error}"))?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| format!("its alternative names can't be read: {error}"))?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with("genesis://") => Some(*uri),
            _ => None,
        })
        .collect();
    match uris.as_slice() {
        [uri] => parse(uri),
        [] => Err("it names no identity (genesis://FLEET/ROLE/NAME)".into()),
        _ => Err("it names more than one identity".into()),
    }
}

fn parse(uri: &str) -> Result<CertificateIdentity, String> {
    let parts: Vec<&str> = uri.strip_prefix("genesis://").unwrap_or_default().split('/').collect();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_@".contains(&byte);
    let clean = |part: &str| (1..=64).contains(&part.len()) && part.bytes().all(allowed);
    let [fleet, role, name] = parts.as_slice() else {
        return Err(format!("{uri:?} is not genesis://FLEET/ROLE/NAME"));
    };
    if !(clean(fleet) && clean(role) && clean(name)) {
        return Err(format!("{uri:?} is not genesis://FLEET/ROLE/NAME"));
    }
    let role = match *role {
        "viewer" => Some(Role::Viewer),
        "operator" => Some(Role::Operator),
        "admin" => Some(Role::Admin),
        _ => None,
    };
    Ok(CertificateIdentity { uri: uri.to_owned(), fleet: (*fleet).to_owned(), role })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities() {
        let good = parse("genesis://prod/operator/olga").unwrap();
        assert_eq!((good.fleet.as_str(), good.role), ("prod", Some(Role::Operator)));
        assert_eq!(parse("genesis://prod/agent/web-1").unwrap().role, None);
        assert_eq!(parse("genesis://prod/ADMIN/x").unwrap().role, None, "roles are lower case");
        for bad in [
            "genesis://prod/admin",
            "genesis://prod/admin/x/y",
            "genesis:///admin/x",
            "genesis://p/admin/x y",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

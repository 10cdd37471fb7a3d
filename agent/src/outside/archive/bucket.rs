//! The client of an S3-compatible bucket.

use std::path::Path;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{BackoffConfig, Certificate, ClientOptions, RetryConfig};

use super::address::{Bucket, Encryption};
use crate::error::{Error, Result};
use crate::outside::secret;

/// A request that fails is repeated so often at once; after that, the segment waits and tries again.
const RETRIES: usize = 2;
/// A connection must stand within this time.
const CONNECT: Duration = Duration::from_secs(5);
/// What the client calls the way in which objects are encrypted, and the key.
const WAY: &str = "aws_server_side_encryption";
/// See [`WAY`].
const KMS_KEY: &str = "aws_sse_kms_key_id";
/// A file of credentials is no longer, in bytes.
const CREDENTIALS: u64 = 1 << 20;

/// Makes the client; nothing is sent yet.
///
/// # Errors
/// `ARCHIVE_CREDENTIALS_INVALID`, `ARCHIVE_UNAVAILABLE` for a CA file that can't be used.
pub(super) fn connect(bucket: &Bucket, url: &str) -> Result<AmazonS3> {
    // The HTTP client asks the process which cryptography to use; somebody may have said it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let failed = |what: String| Error::unavailable("ARCHIVE_UNAVAILABLE", what);
    let mut client = ClientOptions::new()
        // A whole segment may take long; one that stands still may not.
        .with_timeout_disabled()
        .with_read_timeout(bucket.timeout)
        .with_connect_timeout(CONNECT.min(bucket.timeout));
    if let Some(path) = &bucket.ca_file {
        let unusable = || failed(format!("can't use the CA file {}", path.display()));
        let pem = std::fs::read(path).map_err(|error| unusable().caused_by(error))?;
        let certificates =
            Certificate::from_pem_bundle(&pem).map_err(|error| unusable().caused_by(error))?;
        for certificate in certificates {
            client = client.with_root_certificate(certificate);
        }
    }
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: RETRIES,
        retry_timeout: bucket.timeout,
    };
    let environment = std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
    let mut builder = begin(environment, bucket.encryption.as_ref())
        .map_err(|error| failed(format!("can't open the archive {url}")).caused_by(error))?
        .with_bucket_name(&bucket.name)
        .with_region(&bucket.region)
        .with_retry(retry);
    if let Some(endpoint) = &bucket.endpoint {
        // The configuration has seen to it that this is so on loopback only.
        client = client.with_allow_http(endpoint.starts_with("http://"));
        builder = builder.with_endpoint(endpoint).with_virtual_hosted_style_request(false);
    }
    if let Some(path) = &bucket.credentials_file {
        let credentials = credentials(path)?;
        builder =
            builder.with_access_key_id(credentials.id).with_secret_access_key(credentials.secret);
        if let Some(token) = credentials.token {
            builder = builder.with_token(token);
        }
    }
    builder
        .with_client_options(client)
        .build()
        .map_err(|error| failed(format!("can't open the archive {url}")).caused_by(error))
}

/// The environment, which may name a role of the machine; what is configured counts more, and of how objects are
/// encrypted it counts alone: a key that was meant for another way would be refused with each request.
fn begin(
    environment: impl Iterator<Item = (String, String)>,
    encryption: Option<&Encryption>,
) -> object_store::Result<AmazonS3Builder> {
    let mut builder = AmazonS3Builder::new();
    for (name, value) in environment.filter(|(name, _)| name.starts_with("AWS_")) {
        // Of those that are nothing to the client it knows nothing.
        let Ok(key) = name.to_ascii_lowercase().parse() else { continue };
        if encryption.is_none() || !matches!(key, AmazonS3ConfigKey::Encryption(_)) {
            builder = builder.with_config(key, value);
        }
    }
    let Some(encryption) = encryption else { return Ok(builder) };
    let builder = builder.with_config(WAY.parse()?, encryption.way);
    Ok(match &encryption.kms_key {
        Some(key) => builder.with_config(KMS_KEY.parse()?, key.as_str()),
        None => builder,
    })
}

struct Credentials {
    id: String,
    secret: String,
    token: Option<String>,
}

/// Reads the file in the format of Amazon's own tools, its first or its `[default]` profile.
fn credentials(path: &Path) -> Result<Credentials> {
    let shown = path.display();
    let invalid = |what: String| Error::unavailable("ARCHIVE_CREDENTIALS_INVALID", what);
    let text = secret::text(path, CREDENTIALS).map_err(invalid)?;
    parse(&text).ok_or_else(|| {
        invalid(format!(
            "{shown} has no aws_access_key_id and aws_secret_access_key in its profile [default]"
        ))
    })
}

fn parse(text: &str) -> Option<Credentials> {
    let (mut id, mut secret, mut token, mut ours) = (None, None, None, true);
    for line in text.lines().map(str::trim) {
        if let Some(profile) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            ours = profile.trim() == "default";
        } else if let Some((key, value)) = line.split_once('=').filter(|_| ours) {
            let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            match key.trim() {
                "aws_access_key_id" => id = value,
                "aws_secret_access_key" => secret = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    Some(Credentials { id: id?, secret: secret?, token })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn credentials_are_those_of_the_default_profile() {
        let text = "# comment\n[other]\naws_access_key_id = no\n[default]\n\
                    aws_access_key_id = ID\naws_secret_access_key=a=b/c\n[x]\naws_secret_access_key=no\n";
        let found = parse(text).unwrap();
        assert_eq!((found.id.as_str(), found.secret.as_str()), ("ID", "a=b/c"));
        assert!(found.token.is_none());
        assert!(
            parse("aws_access_key_id=ID\naws_secret_access_key=S\naws_session_token=T").is_some()
        );
        assert!(parse("[default]\naws_access_key_id=ID\naws_secret_access_key=\n").is_none());
        assert!(parse("").is_none());
    }

    #[test]
    fn how_objects_are_encrypted_is_said_by_the_configuration_or_else_by_the_environment() {
        const BUCKET_KEY: &str = "aws_sse_bucket_key_enabled";
        let environment = || {
            let pairs = [
                ("AWS_SERVER_SIDE_ENCRYPTION", "aws:kms"),
                ("AWS_SSE_KMS_KEY_ID", "theirs"),
                ("AWS_SSE_BUCKET_KEY_ENABLED", "true"),
                ("AWS_ACCESS_KEY_ID", "ID"),
                ("AWS_PAGER", ""),
                ("PATH", "/bin"),
            ];
            pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        let ours = |way, key: Option<&str>| Encryption { way, kms_key: key.map(str::to_owned) };
        for (encryption, way, key, bucket_key) in [
            (None, "aws:kms", Some("theirs"), Some("true")),
            (Some(ours("AES256", None)), "AES256", None, None),
            (Some(ours("aws:kms", None)), "aws:kms", None, None),
            (Some(ours("aws:kms:dsse", Some("ours"))), "aws:kms:dsse", Some("ours"), None),
        ] {
            let builder = begin(environment(), encryption.as_ref()).unwrap();
            let said = |name: &str| builder.get_config_value(&name.parse().unwrap());
            assert_eq!(said(WAY).as_deref(), Some(way));
            assert_eq!(said(KMS_KEY).as_deref(), key, "{encryption:?}");
            assert_eq!(said(BUCKET_KEY).as_deref(), bucket_key, "{encryption:?}");
            assert_eq!(said("aws_access_key_id").as_deref(), Some("ID"));
        }
        let builder = begin(std::iter::empty(), None).unwrap();
        assert_eq!(builder.get_config_value(&WAY.parse().unwrap()), None);
        // As `open` does.
        let _ = rustls::crypto::ring::default_provider().install_default();
        for way in Encryption::WAYS {
            let client = begin(std::iter::empty(), Some(&ours(way, None))).unwrap();
            assert!(client.with_bucket_name("logs").build().is_ok(), "{way}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_and_its_secret_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        std::fs::write(&path, "aws_access_key_id = ID\naws_secret_access_key = hush\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let refused = credentials(&path).err().unwrap();
        assert_eq!(refused.code, "ARCHIVE_CREDENTIALS_INVALID");
        assert!(!refused.chain().contains("hush"), "{}", refused.chain());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(credentials(&path).is_ok());
    }
}

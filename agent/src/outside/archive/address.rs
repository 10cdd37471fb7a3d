//! Where an archive is.

use std::path::PathBuf;
use std::time::Duration;

/// The address of an archive, as it is configured. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// As people write it.
    pub url: String,
    /// What it says.
    pub place: Place,
}

/// What kind of place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder of this host.
    Folder(PathBuf),
    /// An S3-compatible bucket.
    Bucket(Bucket),
}

/// An S3-compatible bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// Before each object's name, ended by a slash, or empty.
    pub prefix: String,
    /// The server, where it is not Amazon's.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// Where the credentials stand; else the environment, or the machine's role.
    pub credentials_file: Option<PathBuf>,
    /// Further CAs to trust, in PEM.
    pub ca_file: Option<PathBuf>,
    /// A request without an answer, or an answer that stands still, is given up after so long.
    pub timeout: Duration,
    /// How the store is asked to encrypt each object; `None`: as the environment says, else as the bucket does by itself.
    pub encryption: Option<Encryption>,
}

/// How a store encrypts an object that it keeps. The agent has no key for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// One of [`Encryption::WAYS`].
    pub way: &'static str,
    /// The key of the store's key management; `None`: the one that it has for this.
    pub kms_key: Option<String>,
}

impl Encryption {
    /// What a request may ask for, as S3 has it.
    pub const WAYS: [&str; 3] = ["AES256", "aws:kms", "aws:kms:dsse"];

    /// Whether a way takes a key of the store's key management.
    pub fn takes_key(way: &str) -> bool {
        way.starts_with("aws:kms")
    }
}

impl Address {
    /// The folder of a local archive.
    pub fn folder(&self) -> Option<&PathBuf> {
        match &self.place {
            Place::Folder(folder) => Some(folder),
            Place::Bucket(_) => None,
        }
    }

    /// The files of this address that only their owner may read.
    pub fn secrets(&self) -> Option<PathBuf> {
        match &self.place {
            Place::Folder(_) => None,
            Place::Bucket(bucket) => bucket.credentials_file.clone(),
        }
    }

    /// Looks at the files that opening the archive takes; nothing is sent.
    ///
    /// # Errors
    /// `ARCHIVE_CREDENTIALS_INVALID`, `ARCHIVE_UNAVAILABLE` for a CA file that can't be used.
    pub fn check(&self) -> crate::error::Result<()> {
        match &self.place {
            Place::Folder(_) => Ok(()),
            Place::Bucket(bucket) => super::bucket::connect(bucket, &self.url).map(drop),
        }
    }

    /// Parses `file:///folder` or `s3://bucket/prefix`; what else a bucket needs keeps its defaults.
    ///
    /// # Errors
    /// What is wrong with the address, in words.
    pub fn parse(url: &str) -> Result<Self, String> {
        let place = if let Some(path) = url.strip_prefix("file://") {
            if !path.starts_with('/') {
                return Err(format!("{url:?} needs an absolute path: file:///folder"));
            }
            Place::Folder(PathBuf::from(path))
        } else if let Some(rest) = url.strip_prefix("s3://") {
            let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let fits = |byte: u8| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.'
            };
            if !(3..=63).contains(&name.len()) || !name.bytes().all(fits) {
                return Err(format!(
                    "{name:?} is no bucket's name; they have 3 to 63 of a-z, 0-9, '-' and '.'"
                ));
            }
            let prefix = prefix.trim_matches('/');
            let plain = |part: &str| {
                !part.is_empty()
                    && part != "."
                    && part != ".."
                    && part.bytes().all(|byte| {
                        byte.is_ascii_alphanumeric() || [b'-', b'_', b'.', b'='].contains(&byte)
                    })
            };
            if !prefix.is_empty() && !prefix.split('/').all(plain) {
                return Err(format!(
                    "the prefix {prefix:?} may have letters, digits, '-', '_', '.', '=' and single '/' only"
                ));
            }
            let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
            Place::Bucket(Bucket {
                name: name.to_owned(),
                prefix,
                endpoint: None,
                region: "us-east-1".into(),
                credentials_file: None,
                ca_file: None,
                timeout: Duration::from_secs(30),
                encryption: None,
            })
        } else {
            return Err(format!(
                "{url:?} is no archive address; use file:///folder or s3://bucket/prefix"
            ));
        };
        Ok(Self { url: url.to_owned(), place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let folder = Address::parse("file:///srv/archive").unwrap();
        assert_eq!(folder.folder().unwrap().to_str(), Some("/srv/archive"));
        for (url, name, prefix) in [
            ("s3://logs", "logs", ""),
            ("s3://logs/", "logs", ""),
            ("s3://my.logs-1/fleet/eu/", "my.logs-1", "fleet/eu/"),
        ] {
            let address = Address::parse(url).unwrap();
            assert!(address.folder().is_none());
            let Place::Bucket(bucket) = address.place else { panic!("{url}") };
            assert_eq!((bucket.name.as_str(), bucket.prefix.as_str()), (name, prefix), "{url}");
        }
        for url in [
            "file://relative",
            "ftp://x",
            "/srv",
            "s3://",
            "s3://ab",
            "s3://Upper",
            "s3://bucket/a//b",
            "s3://bucket/../x",
            "s3://bucket/a b",
        ] {
            assert!(Address::parse(url).is_err(), "{url}");
        }
    }
}

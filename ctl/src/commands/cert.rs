//! `cert`: the verbs, and which file carries each out.

mod backup;
mod change;
pub(super) mod list;
mod look;
mod pin;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::connect::Session;
use crate::exit::{Exit, Halt};

const SERVICE: &str = "genesis.v1.CertificateService";

const LIST_EXAMPLES: &str = "\
SERVED is whether what is served is what is on the disk, where that is looked at. Exits 3 where a certificate has
expired, is self-signed, revoked, compromised or absent, is not what is served, or waits after a failure with less than
seven days left; 5 where its state is unknown.

Examples:
  genesisctl cert list
  genesisctl cert list --domain api.example.com -v
  genesisctl cert list --all -o json";

const SHOW_EXAMPLES: &str = "\
Exits as `genesisctl cert list` does.

Examples:
  genesisctl cert show
  genesisctl cert show api.example.com -v";

const RENEW_EXAMPLES: &str = "\
One that is not due is not ordered, and that is no failure (exit 0): it says when it will be. What the CA does not
allow any more, a pin, and a wait after a failure keep it from starting (exit 4). A renewal of the same certificate that
goes on already is attached to. The exit code is the run's, as in `genesisctl run watch`.

Examples:
  genesisctl cert renew --plan
  genesisctl cert renew --domain api.example.com
  genesisctl cert renew --domain api.example.com --force --reason 'the key may have leaked'";

const VERIFY_EXAMPLES: &str = "\
Looks at the disk, the deployed copies and what is served, now. Exits 3 where something fails, 5 where something is
unknown.

Examples:
  genesisctl cert verify
  genesisctl cert verify --domain api.example.com -o json";

const ROLLBACK_EXAMPLES: &str = "\
Without --to it is the newest earlier generation that may be used. It is pinned, so that no check takes it back: `cert
unpin` ends that. Exits 1 where another one is served all the same, 5 where that could not be looked at although a
probe is configured.

Examples:
  genesisctl cert show api.example.com
  genesisctl cert rollback --domain api.example.com --plan
  genesisctl cert rollback --domain api.example.com --to 3 --reason 'clients refuse the new chain'";

const HISTORY_EXAMPLES: &str = "\
Examples:
  genesisctl cert history
  genesisctl cert history --domain api.example.com --limit 10";

const BUDGET_EXAMPLES: &str = "\
By what this host has used itself: what others use of the same limits it can't know.

Examples:
  genesisctl cert budget
  genesisctl cert budget --domain api.example.com";

const INSTALL_BACKUP_EXAMPLES: &str = "\
The two files are read here and kept on the agent's host, for when no other certificate can be had; a former one is
replaced. Nobody but you may be able to read the key's file. It takes the role of an admin, and TLS or the agent's
socket: a key is not sent in plain text.

Examples:
  genesisctl cert install-backup --domain api.example.com --fullchain fullchain.pem --key privkey.pem --plan
  genesisctl cert install-backup --domain api.example.com --fullchain fullchain.pem --key privkey.pem";

const IMPORT_EXAMPLES: &str = "\
The folder is on the agent's host, and has fullchain.pem and privkey.pem, or cert.pem, chain.pem and privkey.pem. It
comes into service as a new generation. What a private CA has issued is taken only where the agent knows its root, by
issuer_roots_file or [certificates] extra_roots_file. Takes the role of an admin. Exits as `genesisctl cert rollback` does.

Examples:
  genesisctl cert import --domain api.example.com --from /etc/letsencrypt/live/api.example.com --plan
  genesisctl cert import --domain api.example.com --from /etc/letsencrypt/live/api.example.com";

const PIN_EXAMPLES: &str = "\
While it is pinned nothing is ordered, so that it ends some day: people hear of that as of any other.

Examples:
  genesisctl cert pin --domain api.example.com --reason 'partners have this one on their lists until Friday'";

const UNPIN_EXAMPLES: &str = "\
Example:
  genesisctl cert unpin --domain api.example.com";

const MARK_EXAMPLES: &str = "\
Needs --reason, and the role of an admin. Asks at a terminal, showing what would be done; elsewhere it needs --yes. A
mark can't be taken back: the generation never comes into service again, is replaced where it is, and its CA is told to
revoke it. Exits 1 where that has failed: the daily check tries again, and so does another mark of the same generation;
5 where it was not ordered from here, so that somebody else must have it revoked.

Examples:
  genesisctl cert mark --compromised --domain api.example.com --plan
  genesisctl cert mark --compromised --domain api.example.com --reason 'the key was in a backup that left the house'
  genesisctl cert mark --compromised --domain api.example.com --generation 3 --reason 'as above'";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the certificates: what is in force, when it ends, when it is due, and what holds it back.
    #[command(after_help = LIST_EXAMPLES)]
    List(Only),
    /// Show all that is known of a certificate: its generations, a pin, what an attempt failed with, and its copies.
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// Only this one: its name, or a domain that it is for.
        #[arg(default_value = "", hide_default_value = true)]
        domain: String,
    },
    /// Order a certificate anew if it is due, put it into service, and wait for the run's end.
    #[command(after_help = RENEW_EXAMPLES)]
    Renew(Renew),
    /// Look whether what is on the disk, deployed and served is as it should be, item by item.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(Only),
    /// Put an earlier generation back into service, and pin it.
    #[command(after_help = ROLLBACK_EXAMPLES)]
    Rollback {
        #[command(flatten)]
        which: Which,
        /// The generation, as in `cert show`. Without it: the newest earlier one that may be used.
        #[arg(long, value_name = "GENERATION", value_parser = clap::value_parser!(u32).range(1..))]
        to: Option<u32>,
    },
    /// List what happened to certificates, newest first.
    #[command(after_help = HISTORY_EXAMPLES)]
    History {
        #[command(flatten)]
        only: Only,
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Show what the CAs still allow, and when they allow one more.
    #[command(after_help = BUDGET_EXAMPLES)]
    Budget(Only),
    /// Keep a certificate and its key on the agent's host, for when no other can be had.
    #[command(after_help = INSTALL_BACKUP_EXAMPLES)]
    InstallBackup(InstallBackup),
    /// Take over a certificate that another client ordered, and put it into service.
    #[command(after_help = IMPORT_EXAMPLES)]
    Import {
        #[command(flatten)]
        which: Which,
        /// An absolute path on the agent's host.
        #[arg(long, value_name = "FOLDER")]
        from: String,
        /// Also where it ends before the one in force.
        #[arg(long)]
        allow_earlier_end: bool,
    },
    /// Keep the generation in force in service: nothing is ordered, and no other takes its place.
    #[command(after_help = PIN_EXAMPLES)]
    Pin(Which),
    /// End a pin.
    #[command(after_help = UNPIN_EXAMPLES)]
    Unpin(Which),
    /// Say that the key of a generation is known to others.
    #[command(after_help = MARK_EXAMPLES)]
    Mark {
        #[command(flatten)]
        which: Which,
        /// Its key is known to others.
        #[arg(long, required = true)]
        compromised: bool,
        /// The generation, as in `cert show`, on one node. Without it: the one in force.
        #[arg(long, value_name = "GENERATION", value_parser = clap::value_parser!(u32).range(1..))]
        generation: Option<u32>,
    },
}

/// Which certificates are looked at.
#[derive(Debug, Clone, Args)]
pub(crate) struct Only {
    /// Only this one: its name, or a domain that it is for.
    #[arg(long, value_name = "DOMAIN", default_value = "", hide_default_value = true)]
    domain: String,
}

/// Which certificate is meant.
#[derive(Debug, Clone, Args)]
pub(crate) struct Which {
    /// The certificate's name, or a domain that it is for; it may be left out where there is only one.
    #[arg(long, value_name = "DOMAIN", default_value = "", hide_default_value = true)]
    domain: String,
}

impl Which {
    /// The certificate in the words of a question.
    fn named(&self) -> String {
        match self.domain.as_str() {
            "" => "the certificate".to_owned(),
            domain => format!("the certificate of {domain}"),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Renew {
    #[command(flatten)]
    which: Which,
    /// Also when it is not due, or waits after a failure; never beyond what the CA allows.
    #[arg(long)]
    force: bool,
    /// Don't wait for the run's end.
    #[arg(long, visible_alias = "no-wait")]
    detach: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InstallBackup {
    #[command(flatten)]
    which: Which,
    /// A file here with the certificate and its intermediates (PEM).
    #[arg(long, value_name = "FILE")]
    fullchain: PathBuf,
    /// A file here with the certificate's key (PEM), that only you can read.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

impl Verb {
    /// The rpc by which it changes something.
    pub(super) fn changes(&self) -> Option<super::Change> {
        let method = match self {
            Self::List(_)
            | Self::Show { .. }
            | Self::Verify(_)
            | Self::History { .. }
            | Self::Budget(_) => return None,
            Self::Renew(_) => "RenewCertificate",
            Self::Rollback { .. } => "RollbackCertificate",
            Self::InstallBackup(_) => "InstallBackupCertificate",
            Self::Import { .. } => "ImportCertificate",
            Self::Pin(_) => "PinCertificate",
            Self::Unpin(_) => "UnpinCertificate",
            Self::Mark { .. } => "MarkCertificateCompromised",
        };
        Some((SERVICE, method))
    }
}

pub(super) async fn dispatch(verb: &Verb, session: &Session<'_>) -> Result<Exit, Halt> {
    match verb {
        Verb::List(only) => list::list(session, &only.domain).await,
        Verb::Show { domain } => show::show(session, domain).await,
        Verb::Renew(arguments) => change::renew(session, arguments).await,
        Verb::Verify(only) => look::verify(session, &only.domain).await,
        Verb::Rollback { which, to } => change::rollback(session, which, *to).await,
        Verb::History { only, limit } => look::history(session, &only.domain, *limit).await,
        Verb::Budget(only) => look::budget(session, &only.domain).await,
        Verb::InstallBackup(arguments) => backup::install(session, arguments).await,
        Verb::Import { which, from, allow_earlier_end } => {
            change::import(session, which, (from, *allow_earlier_end)).await
        }
        Verb::Pin(which) => pin::pin(session, which).await,
        Verb::Unpin(which) => pin::unpin(session, which).await,
        Verb::Mark { which, generation, compromised: _ } => {
            pin::mark(session, which, *generation).await
        }
    }
}

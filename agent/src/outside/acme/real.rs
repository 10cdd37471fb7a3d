//! The real CAs.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::account::Accounts;
use super::answers::Answers;
use super::trouble::late;
use super::{
    Acme, Answer, Authority, Class, Directory, Ordered, RenewalInfo, Trouble, Wanted, ari, finish,
    order,
};
use crate::outside::Clock;

/// What takes a few answers takes no longer than this altogether: an account may have to be made before.
const CALL: Duration = Duration::from_secs(180);

/// Speaks with CAs.
pub struct RealAcme {
    accounts: Accounts,
    answers: Answers,
}

impl std::fmt::Debug for RealAcme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RealAcme").finish_non_exhaustive()
    }
}

impl RealAcme {
    /// One that knows no CA yet. The clock dates what is signed for name servers, and stands in for a CA that does not
    /// tell its own.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { accounts: Accounts::new(Arc::clone(&clock)), answers: Answers::new(clock) }
    }

    /// What a call returns, within its time; after a failure of the CA its directory is looked at again.
    async fn call<T>(
        &self,
        ca: &Authority,
        attempted: &str,
        call: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        let returned = tokio::time::timeout(CALL, call).await;
        let returned =
            returned.unwrap_or_else(|_| Err(late(&format!("{}: {attempted}", ca.name), CALL)));
        self.forget_after(ca, returned).await
    }

    async fn forget_after<T>(
        &self,
        ca: &Authority,
        returned: Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        if let Err(trouble) = &returned
            && trouble.class == Class::Server
        {
            self.accounts.forget(ca).await;
        }
        returned
    }
}

#[async_trait]
impl Acme for RealAcme {
    async fn directory(&self, ca: &Authority) -> Result<Directory, Trouble> {
        self.call(ca, "its directory", self.accounts.directory(ca)).await
    }

    async fn order(&self, ca: &Authority, wanted: &Wanted) -> Result<Ordered, Trouble> {
        self.call(ca, "an order", order::place(&self.accounts, ca, wanted)).await
    }

    async fn finish(
        &self,
        ca: &Authority,
        url: &str,
        answer: &Answer,
        csr: &[u8],
        patience: Duration,
    ) -> Result<String, Trouble> {
        let known = (&self.accounts, &self.answers);
        let finished = finish::finish(known, ca, url, answer, csr, patience).await;
        self.forget_after(ca, finished).await
    }

    async fn renewal_info(&self, ca: &Authority, leaf: &[u8]) -> Result<RenewalInfo, Trouble> {
        self.call(ca, "renewal information", ari::ask(&self.accounts, ca, leaf)).await
    }

    async fn revoke(&self, ca: &Authority, leaf: &[u8]) -> Result<(), Trouble> {
        self.call(ca, "a revocation", order::revoke(&self.accounts, ca, leaf)).await
    }
}

//! `matrix show`, of one node's matrix.

use genesis_client::v1::{GetMatrixRequest, GetMatrixResponse};
use genesis_client::{Client, Error};

use super::super::incomplete_answer;
use super::map::{self, Canvas};
use super::square::Square;
use super::{Show, page};
use crate::connect::Session;
use crate::exit::{Exit, Halt};
use crate::render::{Answer, View};

pub(super) async fn show(session: &Session<'_>, arguments: &Show) -> Result<Exit, Halt> {
    let canvas = Canvas::of(session);
    session
        .each(|client| async move {
            let mut found = get(&client, arguments).await?;
            let json = session.json("GetMatrixResponse", &found)?;
            let about = found.about.take().ok_or_else(|| incomplete_answer("the version"))?;
            let version = about.version;
            let mut parts = page::parts(&about, session.global.verbose);
            // What was rejected long ago has lost its values.
            if let Some(matrix) = found.matrix.take() {
                let square = Square::of_message(matrix)?;
                let all = format!("`genesisctl matrix show --version {version} --format csv`");
                parts.push(match arguments.pairs {
                    Some(most) => {
                        map::pairs(format!("matrix {version}: strongest pairs"), &square, most)
                    }
                    None => map::part(format!("matrix {version}: values"), &square, canvas, &all),
                });
            }
            parts.extend(page::next(&about));
            Ok(Answer::new(json, View { parts, ..View::default() }).exit(page::exit(&about)))
        })
        .await
}

pub(super) async fn get(client: &Client, arguments: &Show) -> Result<GetMatrixResponse, Error> {
    let request = GetMatrixRequest {
        version: arguments.version.unwrap_or_default(),
        consumer: arguments.consumer.clone().unwrap_or_default(),
        without_values: false,
    };
    client.call(request, |c, r| async move { c.matrices().get_matrix(r).await }).await
}

//! The target's own account: `/api/v1/latency`, and starting it anew.

use std::net::SocketAddr;

use serde_json::Value;

use crate::error::{Error, Result, failure};
use crate::target::{ask, authorization};

use super::record::SHOWN;

/// What a target says of itself.
pub struct Account(Value);

/// One kind of answer, from interrupt to doorbell.
pub struct Row {
    /// Answers.
    pub count: u64,
    /// The fastest.
    pub min_us: f64,
    /// As in [`SHOWN`].
    pub percentiles_us: [f64; SHOWN.len()],
    /// The slowest.
    pub max_us: f64,
}

impl Account {
    /// What was received.
    pub fn whole(&self) -> &Value {
        &self.0
    }

    /// What its figures are.
    pub fn title(&self) -> String {
        let time = self.0["time"].as_str().unwrap_or("unknown");
        format!("its account ({time})")
    }

    /// The account of one kind of answer; `None` if it holds none.
    pub fn row(&self, kind: &str) -> Option<Row> {
        if self.0["unit"] != "ns" {
            return None;
        }
        let total = self.0["kinds"][kind].get("total")?;
        let us = |key: &str| Some(total.get(key)?.as_f64()? / 1e3);
        let mut percentiles_us = [0.0; SHOWN.len()];
        for (value, (name, _)) in percentiles_us.iter_mut().zip(SHOWN) {
            *value = us(&name.replace('.', "_"))?;
        }
        Some(Row {
            count: total.get("count")?.as_u64()?,
            min_us: us("min")?,
            percentiles_us,
            max_us: us("max")?,
        })
    }

    #[cfg(test)]
    pub fn of(text: &str) -> Self {
        Self(serde_json::from_str(text).unwrap_or_default())
    }
}

/// Asks for the account; `None` from a target that has none (any other echo server).
///
/// # Errors
///
/// If there is an answer that is none.
pub fn account(server: SocketAddr) -> Result<Option<Account>> {
    let Ok((code, body)) = ask(server, "GET /api/v1/latency", "") else {
        return Ok(None);
    };
    if code != 200 {
        return Ok(None);
    }
    match serde_json::from_str(&body) {
        Ok(value) => Ok(Some(Account(value))),
        Err(error) => failure(format!("http://{server}/api/v1/latency: {error}")),
    }
}

/// Starts the account anew.
///
/// # Errors
///
/// If the target does not let us.
pub fn reset(server: SocketAddr, token: &str) -> Result<()> {
    let (code, body) = ask(server, "POST /api/v1/latency/reset", &authorization(token)?)
        .map_err(|error| Error::Failure(format!("http://{server}/: {error}")))?;
    match code {
        200 => Ok(()),
        _ => failure(format!(
            "the target does not reset its account: {}",
            body.trim()
        )),
    }
}

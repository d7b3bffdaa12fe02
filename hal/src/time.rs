//! Time and bounded waiting for drivers.

/// A wait reached its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout;

/// A source of time in microseconds since some fixed moment.
pub trait Clock {
    /// Microseconds now. Never goes back.
    fn now_us(&mut self) -> u64;

    /// Asks `done` until it says yes.
    ///
    /// # Errors
    ///
    /// [`Timeout`] if it still says no once `limit_us` have passed; it is asked at least twice, the last time after
    /// the limit, so that a slow core cannot turn a fast device into an error.
    fn wait_until(&mut self, limit_us: u64, mut done: impl FnMut() -> bool) -> Result<(), Timeout> {
        let start = self.now_us();
        loop {
            let late = self.now_us().saturating_sub(start) >= limit_us;
            if done() {
                return Ok(());
            }
            if late {
                return Err(Timeout);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Steps(u64);
    impl Clock for Steps {
        fn now_us(&mut self) -> u64 {
            self.0 += 10;
            self.0
        }
    }

    #[test]
    fn a_wait_ends_at_its_limit() {
        let mut asked = 0;
        let result = Steps(0).wait_until(35, || {
            asked += 1;
            false
        });
        assert_eq!((result, asked), (Err(Timeout), 4));
    }

    #[test]
    fn a_condition_met_after_the_limit_still_counts() {
        assert_eq!(Steps(0).wait_until(0, || true), Ok(()));
    }
}

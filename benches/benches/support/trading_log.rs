//! A trading system's log, the same for the same seed.

use std::fmt;
use std::io::{self, BufWriter, Write};

const SYMBOLS: [&str; 48] = [
    "AAPL", "MSFT", "NVDA", "AMZN", "GOOGL", "META", "TSLA", "BRK.B", "JPM", "V", "UNH", "XOM",
    "LLY", "JNJ", "MA", "AVGO", "PG", "HD", "CVX", "MRK", "COST", "ABBV", "PEP", "KO", "WMT",
    "ADBE", "CRM", "BAC", "ACN", "MCD", "NFLX", "AMD", "LIN", "TMO", "CSCO", "INTC", "ABT", "ORCL",
    "WFC", "DIS", "QCOM", "IBM", "CAT", "GE", "TXN", "AMGN", "SPY", "QQQ",
];
const VENUES: [&str; 8] = ["XNAS", "XNYS", "ARCX", "BATS", "EDGX", "IEXG", "MEMX", "XBOS"];
const CLIENTS: [&str; 12] = [
    "alder", "birch", "cedar", "dogwood", "elm", "fir", "ginkgo", "hazel", "ironwood", "juniper",
    "larch", "maple",
];
const STRATEGIES: [&str; 6] = ["mm-core", "mm-wide", "stat-arb-2", "vwap", "twap", "pairs-eq"];

/// How much of a line differs from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// With trace ids, exchange times and FIX messages; `gzip -6` makes a fifth of it.
    Full,
    /// Without them; `gzip -6` makes less than a sixth of it.
    Terse,
}

/// A generator of lines: mostly orders, fills and quotes, some risk checks as JSON, and now and
/// then an error with a stack trace, whose lines have no timestamps.
pub(crate) struct TradingLog {
    detail: Detail,
    state: u64,
    /// Milliseconds since 2024-03-04T00:00:00Z.
    at: u64,
    order: u64,
    prices: [u64; SYMBOLS.len()],
}

impl TradingLog {
    pub(crate) fn new(detail: Detail, seed: u64) -> Self {
        let mut log = Self {
            detail,
            state: seed,
            at: 9 * 3_600_000,
            order: 48_213_077,
            prices: [0; SYMBOLS.len()],
        };
        log.prices = std::array::from_fn(|_| 2_000 + log.below(60_000));
        log
    }

    /// Writes whole lines until there are at least `bytes`, and returns how many there are.
    pub(crate) fn write_to(&mut self, target: &mut impl Write, bytes: u64) -> io::Result<u64> {
        let mut target = BufWriter::with_capacity(1 << 20, target);
        let mut written = 0;
        let mut line = Vec::with_capacity(1024);
        while written < bytes {
            line.clear();
            self.line(&mut line)?;
            target.write_all(&line)?;
            written += line.len() as u64;
        }
        target.flush()?;
        Ok(written)
    }

    fn line(&mut self, line: &mut Vec<u8>) -> io::Result<()> {
        self.at += self.below(7);
        let (seconds, millis) = (self.at / 1000, self.at % 1000);
        let (day, second) = (4 + seconds / 86_400, seconds % 86_400);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(line, "2024-03-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z ")?;
        match self.below(1000) {
            0..300 => self.quote(line),
            300..500 => self.order(line),
            500..650 => self.fill(line),
            650..780 if self.detail == Detail::Full => self.fix_message(line),
            650..780 => self.quote(line),
            780..880 => self.cancel(line),
            880..960 => self.risk(line),
            960..997 => self.heartbeat(line),
            _ => self.failure(line),
        }
    }

    fn quote(&mut self, line: &mut Vec<u8>) -> io::Result<()> {
        let (symbol, price) = self.instrument();
        let spread = 1 + self.below(4);
        let (bid, ask) = (self.lots(), self.lots());
        let feed = self.below(4);
        write!(
            line,
            "DEBUG [md-feed-{feed}] quote symbol={symbol} bid={} ask={} bid_size={bid} \
             ask_size={ask} venue={} seq={}",
            money(price),
            money(price + spread),
            self.pick(&VENUES),
            self.at * 3 + self.below(3),
        )?;
        let nanos = self.at % 60_000 * 1_000_000 + self.below(1_000_000);
        self.detail(line, format_args!(" exchange_ns={nanos}"))
    }

    fn order(&mut self, line: &mut Vec<u8>) -> io::Result<()> {
        let (symbol, price) = self.instrument();
        self.order += 1 + self.below(3);
        let order = self.order;
        write!(
            line,
            "INFO  [order-gateway-{}] order accepted order_id=ORD-{order} client={} strategy={} \
             symbol={symbol} side={} qty={} price={} tif={} latency_us={}",
            self.below(4),
            self.pick(&CLIENTS),
            self.pick(&STRATEGIES),
            self.pick(&["BUY", "SELL"]),
            self.lots(),
            money(price),
            self.pick(&["DAY", "IOC", "DAY", "GTC"]),
            40 + self.below(400),
        )?;
        let trace = self.next();
        self.detail(line, format_args!(" trace={trace:016x}"))
    }

    fn fill(&mut self, line: &mut Vec<u8>) -> io::Result<()> {
        let (symbol, price) = self.instrument();
        let order = self.order - self.below(400);
        let execution = self.next();
        writeln!(
            line,
            "INFO  [execution] fill order_id=ORD-{order} exec_id={:08x} symbol={symbol} qty={} \
             price={} venue={} liquidity={} fee={} cum_qty={}",
            execution >> 32,
            self.lots(),
            money(price),
            self.pick(&VENUES),
            self.pick(&["ADD", "REMOVE"]),
            money(self.state % 500),
            self.lots(),
        )
    }

    fn fix_message(&mut self, line: &mut Vec<u8>) -> io::Result<()> {
        let (symbol, price) = self.instrument();
        let order = self.order - self.below(400);
        let (execution, venue) = (self.next(), self.pick(&VENUES));
        let (second, millis) = (self.at / 1000 % 86_400, self.at % 1000);
        writeln!(
            line,
            "DEBUG [fix-{venue}] recv 8=FIX.4.4|9={}|35=8|34={}|49={venue}|56=GENESIS|\
             52=20240304-{:02}:{:02}:{:02}.{millis:03}|37={:012X}|11=ORD-{order}|17={execution:016X}|\
             150=F|39={}|55={symbol}|54={}|38={}|32={}|31={}|151={}|10={:03}|",
            280 + self.below(30),
            self.at / 17,
            second / 3600,
            second / 60 % 60,
            second % 60,
            (execution >> 13) & 0xffff_ffff_ffff,
            1 + self.below(2),
            1 + self.below(2),
            self.lots(),
            self.lots(),
            money(price),
            self.lots(),
            self.below(256),
        )
    }

    fn cancel(&mut self, line: &mut Vec<u8>) -> io::Result<()> {
        let order = self.order - self.below(400);
        write!(
            line,
            "INFO  [order-gateway-{}] order cancelled order_id=ORD-{order} reason={} leaves_qty={} \
             latency_us={}",
            self.below(4),
            self.pick(&["client_request", "replaced", "ioc_unfilled", "self_trade_prevention"]),
            self.lots(),
            30 + self.below(300),
        )?;
        let trace = self.next();
        self.detail(line, format_args!(" trace={trace:016x}"))
    }

    fn risk(&mut self, line: &mut Vec<u8>) -> io::Result<()> {
        let (symbol, _) = self.instrument();
        let exposure = self.below(90_000_000);
        writeln!(
            line,
            "INFO  [risk] {{\"event\":\"limit_check\",\"client\":\"{}\",\"symbol\":\"{symbol}\",\
             \"exposure\":{},\"limit\":{},\"utilisation\":0.{:04},\"result\":\"{}\"}}",
            self.pick(&CLIENTS),
            money(exposure),
            money(100_000_000),
            exposure / 9_000,
            self.pick(&["pass", "pass", "pass", "warn"]),
        )
    }

    fn heartbeat(&mut self, line: &mut Vec<u8>) -> io::Result<()> {
        writeln!(
            line,
            "DEBUG [session-{}] heartbeat peer={} in_seq={} out_seq={} rtt_us={}",
            self.below(8),
            self.pick(&VENUES),
            self.at / 90,
            self.at / 70,
            150 + self.below(900),
        )
    }

    fn failure(&mut self, line: &mut Vec<u8>) -> io::Result<()> {
        let order = self.order - self.below(400);
        let venue = self.pick(&VENUES);
        writeln!(
            line,
            "ERROR [order-gateway-1] order rejected order_id=ORD-{order} venue={venue}"
        )?;
        writeln!(line, "  caused by: venue session {venue} is not connected")?;
        for frame in ["route", "dispatch", "on_message"] {
            writeln!(line, "    at gateway::session::{frame} (session.rs:{})", self.below(900))?;
        }
        Ok(())
    }

    /// Ends a line, in full detail with `more`.
    fn detail(&self, line: &mut Vec<u8>, more: fmt::Arguments<'_>) -> io::Result<()> {
        if self.detail == Detail::Full {
            line.write_fmt(more)?;
        }
        line.write_all(b"\n")
    }

    /// An instrument and its price in hundredths, which walks.
    fn instrument(&mut self) -> (&'static str, u64) {
        // The product makes some instruments much busier than others.
        let count = SYMBOLS.len() as u64;
        let index = (self.below(count) * self.below(count) / count) as usize;
        let step = self.below(9);
        self.prices[index] = (self.prices[index] + step).saturating_sub(4).max(100);
        (SYMBOLS[index], self.prices[index])
    }

    fn lots(&mut self) -> u64 {
        if self.below(4) == 0 { 1 + self.below(999) } else { 100 * (1 + self.below(10)) }
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Hundredths as a decimal number.
fn money(hundredths: u64) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

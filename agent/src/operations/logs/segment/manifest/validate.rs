//! What holds for every manifest, whoever wrote it.

use super::{MAX_MEMBERS, MEMBER_BYTES, MEMBER_COMPRESSED_BYTES, Manifest, ManifestError, Member};

/// A gzip header, an empty block and a trailer.
const MIN_GZIP_BYTES: u64 = 20;

const MAX_NAME_BYTES: usize = 255;
const MAX_PATH_BYTES: usize = 4096;
const MAX_FORMAT_BYTES: usize = 16 << 10;

impl Manifest {
    pub(super) fn validate(&self) -> Result<(), ManifestError> {
        self.validate_identity()?;
        self.validate_members()?;
        self.validate_times()
    }

    /// What is settled before a byte of the log is read.
    pub(in super::super) fn validate_identity(&self) -> Result<(), ManifestError> {
        // These become parts of file names wherever a catalogue is rebuilt from manifests.
        name("host_id", &self.host_id)?;
        name("hostname", &self.hostname)?;
        name("log_type", &self.log_type)?;
        text("source_path", &self.source_path, MAX_PATH_BYTES)?;
        text("timestamp_format", &self.timestamp_format, MAX_FORMAT_BYTES)?;
        demand(
            self.previous.is_none() == (self.chain_index == 0),
            "previous",
            "is there at the start of a chain, or missing behind it",
        )
    }

    fn validate_members(&self) -> Result<(), ManifestError> {
        let members = &self.members;
        demand(!members.is_empty(), "members", "is empty")?;
        demand(members.len() <= MAX_MEMBERS, "members", "has too many entries")?;
        let (mut offset, mut plain, mut lines) = (0_u64, 0_u64, 0_u64);
        for (index, member) in members.iter().enumerate() {
            let fault = |field, reason| ManifestError::Member { index, field, reason };
            if member.offset != offset {
                return Err(fault("offset", "is not where the member before ends"));
            }
            if member.plain_offset != plain {
                return Err(fault("plain_offset", "is not where the member before ends"));
            }
            member
                .validate(self.plain_bytes == 0 && members.len() == 1)
                .map_err(|(field, reason)| ManifestError::Member { index, field, reason })?;
            // Bounded sizes and a bounded count: these sums stay far below overflow.
            offset += member.compressed_bytes;
            plain += member.plain_bytes;
            lines += member.lines;
        }
        demand(self.compressed_bytes == offset, "compressed_bytes", "is not the members' sum")?;
        demand(self.plain_bytes == plain, "plain_bytes", "is not the members' sum")?;
        demand(self.lines == lines, "lines", "is not the members' sum")
    }

    fn validate_times(&self) -> Result<(), ManifestError> {
        let (Some(start), Some(end)) = (self.members.first(), self.members.last()) else {
            return demand(false, "members", "is empty");
        };
        if self.plain_bytes == 0 {
            demand(self.first_at.is_none(), "first_at", "is set, and there is no line")?;
            demand(self.last_at.is_none(), "last_at", "is set, and there is no line")?;
            demand(self.ended_at == self.initial_at, "ended_at", "moved without a line")?;
            return demand(!self.ends_with_newline, "ends_with_newline", "is set without a line");
        }
        let first = self.members.iter().map(|member| member.first_at).min();
        let last = self.members.iter().map(|member| member.last_at).max();
        demand(self.first_at == first, "first_at", "is not the members' earliest")?;
        demand(self.last_at == last, "last_at", "is not the members' latest")?;
        demand(
            self.initial_at == Some(start.initial_at),
            "initial_at",
            "is not the first member's",
        )?;
        demand(
            self.ended_at.is_some_and(|at| (end.first_at..=end.last_at).contains(&at)),
            "ended_at",
            "is outside the last member's times",
        )
    }
}

impl Member {
    fn validate(&self, of_empty_segment: bool) -> Result<(), (&'static str, &'static str)> {
        if self.plain_bytes > MEMBER_BYTES as u64 || (self.plain_bytes == 0 && !of_empty_segment) {
            return Err(("plain_bytes", "is out of range"));
        }
        if !(MIN_GZIP_BYTES..=MEMBER_COMPRESSED_BYTES as u64).contains(&self.compressed_bytes) {
            return Err(("compressed_bytes", "is out of range"));
        }
        if self.lines > self.plain_bytes {
            return Err(("lines", "is more than there are bytes"));
        }
        if self.lines == 0 && !self.starts_mid_line && !of_empty_segment {
            return Err(("lines", "is zero, and yet no line goes on from before"));
        }
        if self.first_at > self.last_at {
            return Err(("first_at", "is behind last_at"));
        }
        if self.starts_mid_line && !(self.first_at..=self.last_at).contains(&self.initial_at) {
            return Err(("initial_at", "is outside the member's times"));
        }
        Ok(())
    }
}

fn demand(holds: bool, field: &'static str, reason: &'static str) -> Result<(), ManifestError> {
    if holds { Ok(()) } else { Err(ManifestError::Field { field, reason }) }
}

fn name(field: &'static str, value: &str) -> Result<(), ManifestError> {
    text(field, value, MAX_NAME_BYTES)?;
    demand(
        !value.starts_with('.') && !value.contains(['/', '\\']),
        field,
        "starts with a dot or holds a slash",
    )
}

fn text(field: &'static str, value: &str, most: usize) -> Result<(), ManifestError> {
    demand(!value.is_empty(), field, "is empty")?;
    demand(value.len() <= most, field, "is too long")?;
    demand(!value.contains('\0'), field, "holds a NUL")
}

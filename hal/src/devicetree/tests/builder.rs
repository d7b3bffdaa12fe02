//! Builds blobs for tests, sound ones and others.

/// A blob under construction; every method returns it, so that a tree reads like its source.
pub struct Builder {
    pub structs: Vec<u8>,
    strings: Vec<u8>,
    reservations: Vec<(u64, u64)>,
}

impl Builder {
    pub fn new() -> Self {
        Self {
            structs: Vec::new(),
            strings: Vec::new(),
            reservations: Vec::new(),
        }
    }

    pub fn word(mut self, word: u32) -> Self {
        self.structs.extend(word.to_be_bytes());
        self
    }

    fn padded(mut self, bytes: &[u8]) -> Self {
        self.structs.extend(bytes);
        self.structs
            .resize(self.structs.len().next_multiple_of(4), 0);
        self
    }

    /// A node with all that `inside` puts in it.
    pub fn node(self, name: &str, inside: impl FnOnce(Self) -> Self) -> Self {
        inside(self.begin(name)).end()
    }

    pub fn begin(self, name: &str) -> Self {
        self.word(1).padded(format!("{name}\0").as_bytes())
    }

    pub fn end(self) -> Self {
        self.word(2)
    }

    pub fn bytes(mut self, name: &str, value: &[u8]) -> Self {
        let wanted = format!("{name}\0");
        let at = self
            .strings
            .windows(wanted.len())
            .position(|window| window == wanted.as_bytes())
            .unwrap_or_else(|| {
                self.strings.extend(wanted.bytes());
                self.strings.len() - wanted.len()
            });
        self.word(3)
            .word(value.len() as u32)
            .word(at as u32)
            .padded(value)
    }

    pub fn cells(self, name: &str, cells: &[u32]) -> Self {
        let value: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.bytes(name, &value)
    }

    pub fn text(self, name: &str, text: &str) -> Self {
        self.bytes(name, format!("{text}\0").as_bytes())
    }

    pub fn flag(self, name: &str) -> Self {
        self.bytes(name, &[])
    }

    /// `#address-cells` and `#size-cells`.
    pub fn bus(self, address: u32, size: u32) -> Self {
        self.cells("#address-cells", &[address])
            .cells("#size-cells", &[size])
    }

    pub fn reserve(mut self, address: u64, size: u64) -> Self {
        self.reservations.push((address, size));
        self
    }

    /// The whole blob, with an END token.
    pub fn blob(self) -> Vec<u8> {
        self.word(9).unfinished_blob()
    }

    /// The whole blob as it stands.
    pub fn unfinished_blob(self) -> Vec<u8> {
        let structs_at = 40 + 16 * (self.reservations.len() + 1);
        let strings_at = structs_at + self.structs.len();
        let total = strings_at + self.strings.len();
        let header = [
            0xd00d_feed,
            total,
            structs_at,
            strings_at,
            40,
            17,
            16,
            0,
            self.strings.len(),
            self.structs.len(),
        ];
        let mut blob: Vec<u8> = header
            .iter()
            .flat_map(|&field| (field as u32).to_be_bytes())
            .collect();
        for (address, size) in self.reservations.iter().chain([&(0, 0)]) {
            blob.extend(address.to_be_bytes());
            blob.extend(size.to_be_bytes());
        }
        blob.extend(self.structs);
        blob.extend(self.strings);
        blob
    }
}

/// A tree whose root node has what `inside` puts in it.
pub fn tree(inside: impl FnOnce(Builder) -> Builder) -> Vec<u8> {
    Builder::new().node("", inside).blob()
}

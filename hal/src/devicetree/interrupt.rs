//! References to other nodes by phandle, and the interrupts among them.

use core::fmt;

use super::index::Record;
use super::{Error, MAX_DEPTH, Node, be32};

/// Arguments that a reference can have.
const MAX_ARGUMENTS: usize = 8;
/// Cells that an interrupt can have; the GIC's binding has 3 or 4.
const MAX_INTERRUPT_CELLS: u8 = 4;

/// A node that another one refers to, with what the reference says about it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reference<'t> {
    /// The node referred to.
    pub node: Node<'t>,
    cells: [u32; MAX_ARGUMENTS],
    len: usize,
}

impl Reference<'_> {
    /// The cells behind the phandle.
    pub fn arguments(&self) -> &[u32] {
        self.cells.get(..self.len).unwrap_or_default()
    }
}

impl fmt::Debug for Reference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:x?}", self.node, self.arguments())
    }
}

/// An interrupt, as its controller counts them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Interrupt<'t>(Reference<'t>);

/// An interrupt of a GIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GicInterrupt {
    /// Shared or private.
    pub kind: GicKind,
    /// Its number within its kind; see [`intid`](Self::intid).
    pub number: u32,
    /// Level or edge.
    pub trigger: Trigger,
}

/// Who can get an interrupt of a GIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GicKind {
    /// Shared peripheral interrupt: any CPU.
    Spi,
    /// Private peripheral interrupt: each CPU has its own.
    Ppi,
}

/// How a device asks for attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// By a change of its line.
    Edge,
    /// By holding its line.
    Level,
}

impl GicInterrupt {
    /// The number that the GIC's registers use.
    ///
    /// Spec: GICv3 architecture (IHI 0069), 2.2: PPIs are 16 to 31, SPIs begin at 32.
    pub fn intid(&self) -> u32 {
        match self.kind {
            GicKind::Ppi => self.number + 16,
            GicKind::Spi => self.number + 32,
        }
    }
}

impl<'t> Interrupt<'t> {
    /// The interrupt controller.
    pub fn controller(&self) -> Node<'t> {
        self.0.node
    }

    /// The cells, one to four.
    pub fn cells(&self) -> &[u32] {
        self.0.arguments()
    }

    /// Reads the cells as the GIC's binding says: kind, number, trigger.
    ///
    /// Spec: Linux, Documentation/devicetree/bindings/interrupt-controller/arm,gic-v3.yaml.
    ///
    /// # Errors
    ///
    /// [`Error::GicForm`] for anything else, the extended kinds included.
    pub fn gic(&self) -> Result<GicInterrupt, Error> {
        let [kind, number, flags] = *self.cells().first_chunk().unwrap_or(&[u32::MAX; 3]);
        let kind = match (kind, number) {
            (0, 0..=987) => Some(GicKind::Spi),
            (1, 0..=15) => Some(GicKind::Ppi),
            _ => None,
        };
        // The other bits are, for a PPI of a GICv2, the CPUs that are wired to it.
        let trigger = match flags & 0xf {
            1 | 2 => Some(Trigger::Edge),
            4 | 8 => Some(Trigger::Level),
            _ => None,
        };
        match (kind, trigger) {
            (Some(kind), Some(trigger)) => Ok(GicInterrupt {
                kind,
                number,
                trigger,
            }),
            _ => Err(Error::GicForm {
                place: self.controller().place("#interrupt-cells"),
                cells: [self.0.cells[0], self.0.cells[1], self.0.cells[2]],
            }),
        }
    }
}

impl fmt::Debug for Interrupt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'t> Node<'t> {
    /// Entry `index` of a list of references, as in `reference("clocks", "#clock-cells", 0)`. How many cells follow
    /// a phandle says the node it names, in the property `cells_name`.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Phandle`], [`Error::Cells`], [`Error::Partial`]; [`Error::NoEntry`] also where the
    /// list has a hole (phandle 0).
    pub fn reference(
        &self,
        property: &str,
        cells_name: &str,
        index: usize,
    ) -> Result<Reference<'t>, Error> {
        let mut rest = self.required(property)?;
        let place = || self.place(property);
        let none = || Error::NoEntry {
            place: place(),
            index,
        };
        let mut skip = index;
        while !rest.is_empty() {
            let phandle = be32(rest, 0).ok_or_else(|| Error::Partial(place()))?;
            rest = rest.get(4..).unwrap_or_default();
            if phandle == 0 {
                skip = skip.checked_sub(1).ok_or_else(none)?;
                continue;
            }
            let node = self.by_phandle(property, phandle)?;
            let cells = node.u32(cells_name)?;
            let len = usize::try_from(cells)
                .ok()
                .filter(|&len| len <= MAX_ARGUMENTS)
                .ok_or_else(|| Error::Cells {
                    place: node.place(cells_name),
                    cells,
                })?;
            let arguments = rest.get(..len * 4).ok_or_else(|| Error::Partial(place()))?;
            if skip == 0 {
                return Ok(Reference {
                    node,
                    cells: words(arguments),
                    len,
                });
            }
            skip -= 1;
            rest = rest.get(len * 4..).unwrap_or_default();
        }
        Err(none())
    }

    /// The node that a property of one bare phandle names, as in `target("phy-handle")`.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Length`], [`Error::Phandle`].
    pub fn target(&self, property: &str) -> Result<Node<'t>, Error> {
        let phandle = self.u32(property)?;
        self.by_phandle(property, phandle)
    }

    fn by_phandle(&self, property: &str, phandle: u32) -> Result<Node<'t>, Error> {
        self.tree.by_phandle(phandle).ok_or_else(|| Error::Phandle {
            place: self.place(property),
            phandle,
        })
    }

    /// Interrupt `index`, from `interrupts-extended` or else from `interrupts`, the controller being found through
    /// the nearest `interrupt-parent`.
    ///
    /// # Errors
    ///
    /// Those of [`reference`](Self::reference), and [`Error::Multiple`], [`Error::NoInterruptParent`],
    /// [`Error::InterruptMap`].
    pub fn interrupt(&self, index: usize) -> Result<Interrupt<'t>, Error> {
        let reference = if self.has("interrupts-extended") {
            self.reference("interrupts-extended", "#interrupt-cells", index)?
        } else {
            self.plain_interrupt(index)?
        };
        let controller = reference.node;
        if controller.record.is(Record::INTERRUPT_MAP) {
            return Err(Error::InterruptMap(controller.place("interrupt-map")));
        }
        controller.interrupt_cells()?;
        Ok(Interrupt(reference))
    }

    /// The interrupt that `interrupt-names` calls `name`.
    ///
    /// # Errors
    ///
    /// Those of [`interrupt`](Self::interrupt), and [`Error::NoName`].
    pub fn interrupt_named(&self, name: &str) -> Result<Interrupt<'t>, Error> {
        self.interrupt(self.position("interrupt-names", name)?)
    }

    fn plain_interrupt(&self, index: usize) -> Result<Reference<'t>, Error> {
        let value = self.required("interrupts")?;
        let node = self.interrupt_parent()?;
        let len = node.interrupt_cells()?;
        if !value.len().is_multiple_of(len * 4) {
            return Err(Error::Multiple {
                place: self.place("interrupts"),
                len: value.len(),
                of: len * 4,
            });
        }
        match value.chunks_exact(len * 4).nth(index) {
            Some(cells) => Ok(Reference {
                node,
                cells: words(cells),
                len,
            }),
            None => Err(Error::NoEntry {
                place: self.place("interrupts"),
                index,
            }),
        }
    }

    fn interrupt_cells(&self) -> Result<usize, Error> {
        let place = || self.place("#interrupt-cells");
        match self.record.interrupt_cells() {
            Some(cells @ 1..=MAX_INTERRUPT_CELLS) => Ok(usize::from(cells)),
            Some(cells) => Err(Error::Cells {
                place: place(),
                cells: cells.into(),
            }),
            None => Err(Error::Missing(place())),
        }
    }

    /// The node that takes this node's interrupts: along `interrupt-parent` where there is one, else up, until there
    /// is a node with `#interrupt-cells`.
    fn interrupt_parent(&self) -> Result<Node<'t>, Error> {
        let lost = || Error::NoInterruptParent(self.place("interrupts"));
        let mut node = *self;
        // A sound tree needs fewer steps than it has levels; the phandles of a damaged one may form a circle.
        for _ in 0..2 * MAX_DEPTH {
            node = if node.has("interrupt-parent") {
                node.target("interrupt-parent")?
            } else {
                node.parent().ok_or_else(lost)?
            };
            if node.record.interrupt_cells().is_some() {
                return Ok(node);
            }
        }
        Err(lost())
    }
}

/// The first words of `bytes`; what is not there is 0.
fn words(bytes: &[u8]) -> [u32; MAX_ARGUMENTS] {
    core::array::from_fn(|index| be32(bytes, index * 4).unwrap_or(0))
}

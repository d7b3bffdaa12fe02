# What is built into our emulator: the board, QEMU's own `virt`, and virtio for the latter.
CONFIG_ARM_VIRT=y
CONFIG_ESPRESSOBIN=y
CONFIG_VIRTIO_NET=y
CONFIG_VIRTIO_BLK=y
CONFIG_VIRTIO_RNG=y
CONFIG_VIRTIO_SERIAL=y
CONFIG_VIRTIO_PCI=y

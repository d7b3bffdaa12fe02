/*
 * Machine `espressobin`: Marvell Armada 3720 with an 88E6341 switch.
 *
 * The board's behaviour is the Rust model behind espressobin-model.h. This file joins it to QEMU: processors, GIC, SD
 * host controller, memory, console, one network backend for each socket, and virtual time.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/datadir.h"
#include "qemu/error-report.h"
#include "qemu/log.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "qobject/qlist.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-common.h"
#include "chardev/char-fe.h"
#include "exec/address-spaces.h"
#include "hw/arm/boot.h"
#include "hw/arm/bsa.h"
#include "hw/boards.h"
#include "hw/intc/arm_gicv3_common.h"
#include "hw/irq.h"
#include "hw/loader.h"
#include "hw/qdev-properties.h"
#include "hw/sd/sd.h"
#include "hw/sd/sdhci.h"
#include "hw/sd/sdhci-internal.h"
#include "hw/sysbus.h"
#include "migration/vmstate.h"
#include "net/net.h"
#include "system/blockdev.h"
#include "system/reset.h"
#include "system/runstate.h"
#include "system/system.h"
#include "target/arm/cpu.h"
#include "target/arm/cpu-qom.h"
#include "target/arm/gtimer.h"
#include "hw/arm/espressobin-model.h"

#define REGISTERS_BASE 0xd0000000u
#define REGISTERS_LEN  (32 * MiB)
#define GICD_BASE      0xd1d00000u
#define GICR_BASE      0xd1d40000u
#define SD_BASE        0xd00d0000u
#define SD_SPI         25
#define EMMC_BASE      0xd00d8000u
#define EMMC_SPI       26
#define SECURE_BASE    0x04000000u
#define SECURE_LEN     (2 * MiB)
#define CPUS           2
#define SPIS           192
#define SOCKETS        3
#define MAX_LINES      32
#define FRAME_MAX      (64 * KiB)
#define PMU_PPI        7

/* One socket: a network backend and nothing else. */
#define TYPE_ESPRESSOBIN_SOCKET "espressobin-socket"
OBJECT_DECLARE_SIMPLE_TYPE(EspressobinSocket, ESPRESSOBIN_SOCKET)

/* QEMU's SD host, with what it lacks. */
#define TYPE_ESPRESSOBIN_SDHCI "espressobin-sdhci"
OBJECT_DECLARE_SIMPLE_TYPE(EspressobinSdhci, ESPRESSOBIN_SDHCI)

#define TYPE_ESPRESSOBIN_MACHINE MACHINE_TYPE_NAME("espressobin")
OBJECT_DECLARE_SIMPLE_TYPE(EspressobinMachine, ESPRESSOBIN_MACHINE)

struct EspressobinSocket {
    DeviceState parent;
    NICState *nic;
    NICConf conf;
    EspressobinMachine *board;
    uint32_t index;
};

struct EspressobinSdhci {
    SDHCIState parent;
    MemoryRegionOps ops;
    const MemoryRegionOps *theirs;
};

struct EspressobinMachine {
    MachineState parent;
    EspressobinModel *model;
    MemoryRegion registers, secure;
    ARMCPU *cpu[CPUS];
    DeviceState *gic;
    EspressobinSocket *socket[SOCKETS];
    CharBackend console;
    QEMUTimer *timer;
    qemu_irq line[MAX_LINES];
    uint32_t levels;
    uint64_t due; /* of the timer; all ones while it is off */
    bool syncing, sync_again, stopped, console_full;
    struct arm_boot_info boot;
    uint8_t frame[FRAME_MAX];
    /* options */
    char *variant, *state, *doubts, *faults, *script, *trace;
    bool strict, paced, wire_pace;
    OnOffAuto secure_hole;
};

static uint64_t now(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
}

/* After every call into the model: carries out what it has to say. */
static void espressobin_sync(EspressobinMachine *s)
{
    char message[512];

    if (s->syncing) {
        /* A backend answered from within qemu_send_packet(). */
        s->sync_again = true;
        return;
    }
    s->syncing = true;
    do {
        uint32_t levels = espressobin_lines(s->model), socket;
        size_t len;

        s->sync_again = false;
        for (uint32_t changed = levels ^ s->levels; changed; changed &= changed - 1) {
            int n = ctz32(changed);

            qemu_set_irq(s->line[n], levels >> n & 1);
        }
        s->levels = levels;
        while ((len = espressobin_take_console(s->model, s->frame, sizeof(s->frame)))) {
            qemu_chr_fe_write_all(&s->console, s->frame, len);
        }
        while ((len = espressobin_take_frame(s->model, &socket, s->frame, sizeof(s->frame)))) {
            if (s->socket[socket]->nic) {
                qemu_send_packet(qemu_get_queue(s->socket[socket]->nic), s->frame, len);
            }
        }
    } while (s->sync_again || espressobin_lines(s->model) != s->levels);
    s->syncing = false;

    if (s->console_full && espressobin_console_room(s->model)) {
        /* Nobody asks again by himself while nothing else happens. */
        s->console_full = false;
        qemu_chr_fe_accept_input(&s->console);
    }
    while (espressobin_take_guest_error(s->model, message, sizeof(message))) {
        qemu_log_mask(LOG_GUEST_ERROR, "espressobin: %s\n", message);
    }
    if (!s->stopped && espressobin_stop_reason(s->model, message, sizeof(message))) {
        s->stopped = true;
        error_report("espressobin: strict: %s", message);
        qemu_system_shutdown_request_with_code(SHUTDOWN_CAUSE_GUEST_PANIC, 3);
    }
    if (espressobin_take_script_ended(s->model)) {
        qemu_system_shutdown_request(SHUTDOWN_CAUSE_GUEST_SHUTDOWN);
    }
    if (espressobin_take_reset_request(s->model)) {
        qemu_system_reset_request(SHUTDOWN_CAUSE_GUEST_RESET);
    }
    uint64_t due = espressobin_next_event(s->model);
    if (due != s->due) {
        s->due = due;
        if (due == UINT64_MAX) {
            timer_del(s->timer);
        } else {
            timer_mod(s->timer, due);
        }
    }
}

static void espressobin_timer(void *opaque)
{
    EspressobinMachine *s = opaque;

    s->due = UINT64_MAX;
    espressobin_advance(s->model, now());
    espressobin_sync(s);
}

/* Registers */

static uint64_t registers_read(void *opaque, hwaddr offset, unsigned size)
{
    EspressobinMachine *s = opaque;
    uint64_t value = espressobin_read(s->model, now(), offset, size);

    espressobin_sync(s);
    return value;
}

static void registers_write(void *opaque, hwaddr offset, uint64_t value, unsigned size)
{
    EspressobinMachine *s = opaque;

    espressobin_write(s->model, now(), offset, size, value);
    espressobin_sync(s);
}

static const MemoryRegionOps registers_ops = {
    .read = registers_read,
    .write = registers_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
    .impl = { .min_access_size = 1, .max_access_size = 8, .unaligned = true },
};

static MemTxResult secure_read(void *opaque, hwaddr offset, uint64_t *data, unsigned size, MemTxAttrs attrs)
{
    *data = 0;
    qemu_log_mask(LOG_GUEST_ERROR, "espressobin: read of secure memory at 0x%" HWADDR_PRIx "\n", SECURE_BASE + offset);
    return MEMTX_ERROR;
}

static MemTxResult secure_write(void *opaque, hwaddr offset, uint64_t data, unsigned size, MemTxAttrs attrs)
{
    qemu_log_mask(LOG_GUEST_ERROR, "espressobin: write to secure memory at 0x%" HWADDR_PRIx "\n", SECURE_BASE + offset);
    return MEMTX_ERROR;
}

static const MemoryRegionOps secure_ops = {
    .read_with_attrs = secure_read,
    .write_with_attrs = secure_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
};

/* Memory, for the model */

static bool dma_read(void *opaque, uint64_t address, uint8_t *data, size_t len)
{
    return address_space_read(&address_space_memory, address, MEMTXATTRS_UNSPECIFIED, data, len) == MEMTX_OK;
}

static bool dma_write(void *opaque, uint64_t address, const uint8_t *data, size_t len)
{
    return address_space_write(&address_space_memory, address, MEMTXATTRS_UNSPECIFIED, data, len) == MEMTX_OK;
}

/* Sockets */

static bool socket_can_receive(NetClientState *nc)
{
    EspressobinSocket *socket = qemu_get_nic_opaque(nc);

    return !socket->board->paced || espressobin_can_receive(socket->board->model);
}

static ssize_t socket_receive(NetClientState *nc, const uint8_t *data, size_t len)
{
    EspressobinSocket *socket = qemu_get_nic_opaque(nc);

    espressobin_frame_in(socket->board->model, now(), socket->index, data, len);
    espressobin_sync(socket->board);
    return len;
}

static void socket_link_changed(NetClientState *nc)
{
    EspressobinSocket *socket = qemu_get_nic_opaque(nc);

    espressobin_set_cable(socket->board->model, now(), socket->index, nc->peer && !nc->link_down);
    espressobin_sync(socket->board);
}

static NetClientInfo socket_info = {
    .type = NET_CLIENT_DRIVER_NIC,
    .size = sizeof(NICState),
    .can_receive = socket_can_receive,
    .receive = socket_receive,
    .link_status_changed = socket_link_changed,
};

static void socket_realize(DeviceState *dev, Error **errp)
{
    EspressobinSocket *socket = ESPRESSOBIN_SOCKET(dev);

    if (!socket->conf.peers.ncs[0]) {
        /* No cable. */
        return;
    }
    qemu_macaddr_default_if_unset(&socket->conf.macaddr);
    socket->nic = qemu_new_nic(&socket_info, &socket->conf, object_get_typename(OBJECT(dev)), dev->id,
                               &dev->mem_reentrancy_guard, socket);
}

static const Property socket_properties[] = {
    DEFINE_NIC_PROPERTIES(EspressobinSocket, conf),
};

/* The model's state cannot be saved: snapshots and migration are refused instead of losing it. */
static const VMStateDescription socket_vmstate = {
    .name = TYPE_ESPRESSOBIN_SOCKET,
    .unmigratable = 1,
};

static void socket_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);

    dc->realize = socket_realize;
    dc->vmsd = &socket_vmstate;
    dc->desc = "one socket of the ESPRESSObin";
    dc->user_creatable = false;
    device_class_set_props(dc, socket_properties);
}

/* Console */

static int console_can_receive(void *opaque)
{
    EspressobinMachine *s = opaque;
    uint32_t room = espressobin_console_room(s->model);

    s->console_full = room == 0;
    return room;
}

static void console_receive(void *opaque, const uint8_t *data, int len)
{
    EspressobinMachine *s = opaque;

    espressobin_console_in(s->model, now(), data, len);
    espressobin_sync(s);
}

/* Machine */

static void create_cpus(EspressobinMachine *s)
{
    for (int n = 0; n < CPUS; n++) {
        Object *cpu = object_new(ARM_CPU_TYPE_NAME("cortex-a53"));

        object_property_set_bool(cpu, "has_el3", false, &error_fatal);
        object_property_set_bool(cpu, "has_el2", true, &error_fatal);
        object_property_set_int(cpu, "mp-affinity", n, &error_fatal);
        object_property_set_int(cpu, "cntfrq", 12500000, &error_fatal);
        qdev_realize(DEVICE(cpu), NULL, &error_fatal);
        s->cpu[n] = ARM_CPU(cpu);
        object_unref(cpu);
    }
}

static void create_gic(EspressobinMachine *s)
{
    static const int timers[] = {
        [GTIMER_PHYS] = ARCH_TIMER_NS_EL1_IRQ,
        [GTIMER_VIRT] = ARCH_TIMER_VIRT_IRQ,
        [GTIMER_HYP] = ARCH_TIMER_NS_EL2_IRQ,
        [GTIMER_SEC] = ARCH_TIMER_S_EL1_IRQ,
    };
    DeviceState *gic = s->gic = qdev_new(gicv3_class_name());
    SysBusDevice *bus = SYS_BUS_DEVICE(gic);
    QList *redistributors = qlist_new();

    qdev_prop_set_uint32(gic, "revision", 3);
    qdev_prop_set_uint32(gic, "num-cpu", CPUS);
    qdev_prop_set_uint32(gic, "num-irq", SPIS + GIC_INTERNAL);
    qdev_prop_set_bit(gic, "has-security-extensions", false);
    qlist_append_int(redistributors, CPUS);
    qdev_prop_set_array(gic, "redist-region-count", redistributors);
    sysbus_realize_and_unref(bus, &error_fatal);
    sysbus_mmio_map(bus, 0, GICD_BASE);
    sysbus_mmio_map(bus, 1, GICR_BASE);
    for (int n = 0; n < CPUS; n++) {
        DeviceState *cpu = DEVICE(s->cpu[n]);
        int ppi = SPIS + n * GIC_INTERNAL;

        for (unsigned t = 0; t < ARRAY_SIZE(timers); t++) {
            qdev_connect_gpio_out(cpu, t, qdev_get_gpio_in(gic, ppi + timers[t]));
        }
        qdev_connect_gpio_out_named(cpu, "gicv3-maintenance-interrupt", 0, qdev_get_gpio_in(gic, ppi + ARCH_GIC_MAINT_IRQ));
        qdev_connect_gpio_out_named(cpu, "pmu-interrupt", 0, qdev_get_gpio_in(gic, ppi + 16 + PMU_PPI));
        sysbus_connect_irq(bus, n, qdev_get_gpio_in(cpu, ARM_CPU_IRQ));
        sysbus_connect_irq(bus, n + CPUS, qdev_get_gpio_in(cpu, ARM_CPU_FIQ));
        sysbus_connect_irq(bus, n + 2 * CPUS, qdev_get_gpio_in(cpu, ARM_CPU_VIRQ));
        sysbus_connect_irq(bus, n + 3 * CPUS, qdev_get_gpio_in(cpu, ARM_CPU_VFIQ));
    }
}

/*
 * At an SDMA buffer boundary the host waits until the driver writes the next address, and goes on then (SD Host Controller
 * Simplified Specification 3.00, 2.2.1). Since 8be45cc94783 QEMU ignores that write while Present State says that a
 * transfer is active, which it does at a boundary, too: the transfer never ends. SDMA runs to the next boundary or its end
 * within one access, and from that no other access to this device can come, so that at a write it is always waiting.
 */
static void sdhci_host_write(void *opaque, hwaddr offset, uint64_t value, unsigned size)
{
    EspressobinSdhci *s = opaque;
    SDHCIState *host = &s->parent;

    if ((offset & ~3) == SDHC_SYSAD && host->blkcnt && (host->trnmod & SDHC_TRNS_DMA) &&
        SDHC_DMA_TYPE(host->hostctl1) == SDHC_CTRL_SDMA) {
        /* Set again by what the write starts. */
        host->prnsts &= ~(SDHC_DOING_READ | SDHC_DOING_WRITE);
    }
    s->theirs->write(opaque, offset, value, size);
}

static void sdhci_host_instance_init(Object *obj)
{
    EspressobinSdhci *s = ESPRESSOBIN_SDHCI(obj);

    s->theirs = s->parent.io_ops;
    s->ops = *s->theirs;
    s->ops.write = sdhci_host_write;
    s->parent.io_ops = &s->ops;
}

static void create_sdhci(EspressobinMachine *s, hwaddr base, int spi, DriveInfo *drive)
{
    DeviceState *host = qdev_new(TYPE_ESPRESSOBIN_SDHCI);
    SysBusDevice *bus = SYS_BUS_DEVICE(host);

    qdev_prop_set_uint8(host, "sd-spec-version", 3);
    qdev_prop_set_uint64(host, "capareg", 0x057834b4);
    /* As every tree of the board says of the slot. */
    qdev_prop_set_bit(host, "wp-inverted", base == SD_BASE);
    sysbus_realize_and_unref(bus, &error_fatal);
    sysbus_mmio_map_overlap(bus, 0, base, 1);
    sysbus_connect_irq(bus, 0, qdev_get_gpio_in(s->gic, spi));
    if (drive) {
        DeviceState *card = qdev_new(TYPE_SD_CARD);

        qdev_prop_set_drive_err(card, "drive", blk_by_legacy_dinfo(drive), &error_fatal);
        qdev_realize_and_unref(card, qdev_get_child_bus(host, "sd-bus"), &error_fatal);
    }
}

static void create_model(EspressobinMachine *s, bool sd_card)
{
    static const char *const variants[] = { "v5", "v7", "ultra" };
    EspressobinConfig config = {
        .variant = ARRAY_SIZE(variants),
        .from_uboot = g_str_equal(s->state, "u-boot"),
        .sd_card = sd_card,
        .strict = s->strict,
        .wire_pace = s->wire_pace,
        .rx_backlog = s->paced ? 64 : 0,
        .ram_bytes = MACHINE(s)->ram_size,
    };
    EspressobinDma dma = { .opaque = s, .read = dma_read, .write = dma_write };
    char error[256];

    for (unsigned n = 0; n < ARRAY_SIZE(variants); n++) {
        if (g_str_equal(s->variant, variants[n])) {
            config.variant = n;
        }
    }
    if (config.variant == ARRAY_SIZE(variants)) {
        error_report("espressobin: variant must be v5, v7 or ultra, not '%s'", s->variant);
        exit(1);
    }
    if (!config.from_uboot && !g_str_equal(s->state, "power-on")) {
        error_report("espressobin: state must be power-on or u-boot, not '%s'", s->state);
        exit(1);
    }
    s->model = espressobin_new(&config, &dma, s->doubts, s->faults, error, sizeof(error));
    if (!s->model || !espressobin_set_script(s->model, s->script, s->trace, error, sizeof(error))) {
        error_report("espressobin: %s", error);
        exit(1);
    }
    g_assert(espressobin_line_count() <= MAX_LINES);
    for (uint32_t n = 0; n < espressobin_line_count(); n++) {
        s->line[n] = qdev_get_gpio_in(s->gic, espressobin_line_spi(n));
    }
    s->due = UINT64_MAX;
    s->timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, espressobin_timer, s);
}

static void create_sockets(EspressobinMachine *s)
{
    for (int n = 0; n < SOCKETS; n++) {
        DeviceState *dev = qdev_new(TYPE_ESPRESSOBIN_SOCKET);
        EspressobinSocket *socket = s->socket[n] = ESPRESSOBIN_SOCKET(dev);

        socket->board = s;
        socket->index = n;
        qemu_configure_nic_device(dev, true, "espressobin");
        object_property_add_child(OBJECT(s), "socket[*]", OBJECT(dev));
        qdev_realize_and_unref(dev, NULL, &error_fatal);
        if (socket->nic) {
            socket_link_changed(qemu_get_queue(socket->nic));
        }
    }
}

static void espressobin_machine_reset_model(void *opaque)
{
    EspressobinMachine *s = opaque;

    espressobin_reset(s->model, now());
    espressobin_sync(s);
}

static void load_firmware(EspressobinMachine *s, const char *name)
{
    g_autofree char *path = qemu_find_file(QEMU_FILE_TYPE_BIOS, name);

    /* As the secure firmware would have: at the start of memory, entered there at EL2. */
    if (!path || load_image_targphys(path, 0, SECURE_BASE) < 0) {
        error_report("espressobin: cannot load firmware '%s'", name);
        exit(1);
    }
    s->boot.firmware_loaded = true;
}

static void espressobin_init(MachineState *machine)
{
    EspressobinMachine *s = ESPRESSOBIN_MACHINE(machine);
    MemoryRegion *memory = get_system_memory();
    DriveInfo *drive = drive_get(IF_SD, 0, 0);

    if (machine->ram_size < 512 * MiB || machine->ram_size > 2 * GiB) {
        error_report("espressobin: RAM must be between 512 MiB and 2 GiB");
        exit(1);
    }
    memory_region_add_subregion(memory, 0, machine->ram);
    /* U-Boot sizes memory right through it, and runs on the real board. */
    if (s->secure_hole == ON_OFF_AUTO_ON || (s->secure_hole == ON_OFF_AUTO_AUTO && !machine->firmware)) {
        memory_region_init_io(&s->secure, OBJECT(s), &secure_ops, s, "espressobin.secure", SECURE_LEN);
        memory_region_add_subregion_overlap(memory, SECURE_BASE, &s->secure, 1);
    }
    create_cpus(s);
    create_gic(s);
    create_sdhci(s, SD_BASE, SD_SPI, drive);
    create_sdhci(s, EMMC_BASE, EMMC_SPI, NULL);
    create_model(s, drive != NULL);
    memory_region_init_io(&s->registers, OBJECT(s), &registers_ops, s, "espressobin.registers", REGISTERS_LEN);
    memory_region_add_subregion_overlap(memory, REGISTERS_BASE, &s->registers, -1);
    if (serial_hd(0)) {
        qemu_chr_fe_init(&s->console, serial_hd(0), &error_fatal);
        qemu_chr_fe_set_handlers(&s->console, console_can_receive, console_receive, NULL, NULL, s, NULL, true);
    }
    create_sockets(s);
    qemu_register_reset(espressobin_machine_reset_model, s);

    s->boot.ram_size = machine->ram_size;
    s->boot.board_id = -1;
    s->boot.loader_start = 0;
    s->boot.psci_conduit = QEMU_PSCI_CONDUIT_SMC;
    if (machine->firmware) {
        load_firmware(s, machine->firmware);
    } else if (machine->kernel_filename && !machine->dtb) {
        warn_report("espressobin: -kernel without -dtb: the machine has no devicetree of its own to give");
    }
    arm_load_kernel(s->cpu[0], machine, &s->boot);
}

#define STRING_OPTION(name)                                                              \
    static char *get_##name(Object *obj, Error **errp)                                   \
    {                                                                                    \
        return g_strdup(ESPRESSOBIN_MACHINE(obj)->name);                                 \
    }                                                                                    \
    static void set_##name(Object *obj, const char *value, Error **errp)                 \
    {                                                                                    \
        EspressobinMachine *s = ESPRESSOBIN_MACHINE(obj);                                \
        if (s->model) {                                                                  \
            error_setg(errp, "cannot be changed while the machine runs");                \
            return;                                                                      \
        }                                                                                \
        g_free(s->name);                                                                 \
        s->name = g_strdup(value);                                                       \
    }

#define BOOL_OPTION(name)                                                                \
    static bool get_##name(Object *obj, Error **errp)                                    \
    {                                                                                    \
        return ESPRESSOBIN_MACHINE(obj)->name;                                           \
    }                                                                                    \
    static void set_##name(Object *obj, bool value, Error **errp)                        \
    {                                                                                    \
        EspressobinMachine *s = ESPRESSOBIN_MACHINE(obj);                                \
        if (s->model) {                                                                  \
            error_setg(errp, "cannot be changed while the machine runs");                \
            return;                                                                      \
        }                                                                                \
        s->name = value;                                                                 \
    }

STRING_OPTION(variant)
STRING_OPTION(state)
STRING_OPTION(doubts)
STRING_OPTION(script)
STRING_OPTION(trace)
BOOL_OPTION(strict)
BOOL_OPTION(paced)
BOOL_OPTION(wire_pace)

static void get_secure_hole(Object *obj, Visitor *v, const char *name, void *opaque, Error **errp)
{
    visit_type_OnOffAuto(v, name, &ESPRESSOBIN_MACHINE(obj)->secure_hole, errp);
}

static void set_secure_hole(Object *obj, Visitor *v, const char *name, void *opaque, Error **errp)
{
    if (ESPRESSOBIN_MACHINE(obj)->model) {
        error_setg(errp, "cannot be changed while the machine runs");
        return;
    }
    visit_type_OnOffAuto(v, name, &ESPRESSOBIN_MACHINE(obj)->secure_hole, errp);
}

static char *get_faults(Object *obj, Error **errp)
{
    return g_strdup(ESPRESSOBIN_MACHINE(obj)->faults);
}

static void set_faults(Object *obj, const char *value, Error **errp)
{
    EspressobinMachine *s = ESPRESSOBIN_MACHINE(obj);
    char error[256];

    if (s->model) {
        if (!espressobin_set_faults(s->model, value, error, sizeof(error))) {
            error_setg(errp, "%s", error);
            return;
        }
        espressobin_advance(s->model, now());
        espressobin_sync(s);
    }
    g_free(s->faults);
    s->faults = g_strdup(value);
}

static char *get_counters(Object *obj, Error **errp)
{
    EspressobinMachine *s = ESPRESSOBIN_MACHINE(obj);
    char counters[256] = "";
    uint64_t errors = 0;

    if (s->model) {
        espressobin_counters(s->model, counters, sizeof(counters));
        errors = espressobin_guest_error_count(s->model);
    }
    return g_strdup_printf("%s guest_errors=%" PRIu64, counters, errors);
}

static void espressobin_instance_init(Object *obj)
{
    EspressobinMachine *s = ESPRESSOBIN_MACHINE(obj);

    s->variant = g_strdup("v5");
    s->state = g_strdup("u-boot");
    s->doubts = g_strdup("");
    s->faults = g_strdup("");
    s->script = g_strdup("");
    s->trace = g_strdup("");
    s->secure_hole = ON_OFF_AUTO_AUTO;
}

static void espressobin_instance_finalize(Object *obj)
{
    EspressobinMachine *s = ESPRESSOBIN_MACHINE(obj);

    g_free(s->variant);
    g_free(s->state);
    g_free(s->doubts);
    g_free(s->faults);
    g_free(s->script);
    g_free(s->trace);
}

static void espressobin_class_init(ObjectClass *oc, void *data)
{
    static const char *const cpu_types[] = { ARM_CPU_TYPE_NAME("cortex-a53"), NULL };
    MachineClass *mc = MACHINE_CLASS(oc);

    mc->desc = "Marvell ESPRESSObin (Armada 3720, 88E6341 switch)";
    mc->init = espressobin_init;
    mc->valid_cpu_types = cpu_types;
    mc->default_cpus = mc->min_cpus = mc->max_cpus = CPUS;
    mc->default_ram_size = 1 * GiB;
    mc->default_ram_id = "espressobin.ram";
    mc->block_default_type = IF_SD;
    mc->no_parallel = mc->no_floppy = mc->no_cdrom = true;

    object_class_property_add_str(oc, "variant", get_variant, set_variant);
    object_class_property_set_description(oc, "variant", "v5, v7 or ultra");
    object_class_property_add_str(oc, "state", get_state, set_state);
    object_class_property_set_description(oc, "state", "power-on, or u-boot: as the boot loader leaves the board");
    object_class_property_add_str(oc, "doubts", get_doubts, set_doubts);
    object_class_property_set_description(oc, "doubts", "readings of open questions, name:reading,...");
    object_class_property_add_str(oc, "faults", get_faults, set_faults);
    object_class_property_set_description(oc, "faults", "misbehaviour, name=value*count,...; may be set at run time");
    object_class_property_add_str(oc, "script", get_script, set_script);
    object_class_property_set_description(oc, "script", "file: frames and cables that come at their virtual times");
    object_class_property_add_str(oc, "trace", get_trace, set_trace);
    object_class_property_set_description(oc, "trace", "file: frames in and out with their virtual times, itself a script");
    object_class_property_add_bool(oc, "strict", get_strict, set_strict);
    object_class_property_set_description(oc, "strict", "stop at the first guest error");
    object_class_property_add_bool(oc, "paced", get_paced, set_paced);
    object_class_property_set_description(oc, "paced", "hold received frames back while the ring is full");
    object_class_property_add_bool(oc, "wire-pace", get_wire_pace, set_wire_pace);
    object_class_property_set_description(oc, "wire-pace", "send at wire speed in virtual time");
    object_class_property_add(oc, "secure-hole", "OnOffAuto", get_secure_hole, set_secure_hole, NULL, NULL);
    object_class_property_set_description(oc, "secure-hole", "2 MiB at 0x4000000 abort; auto: unless firmware runs");
    object_class_property_add_str(oc, "counters", get_counters, NULL);
    object_class_property_set_description(oc, "counters", "frames on the wire, lost ones, guest errors; read only");
}

static const TypeInfo espressobin_types[] = {
    {
        .name = TYPE_ESPRESSOBIN_SOCKET,
        .parent = TYPE_DEVICE,
        .instance_size = sizeof(EspressobinSocket),
        .class_init = socket_class_init,
    },
    {
        .name = TYPE_ESPRESSOBIN_SDHCI,
        .parent = TYPE_SYSBUS_SDHCI,
        .instance_size = sizeof(EspressobinSdhci),
        .instance_init = sdhci_host_instance_init,
    },
    {
        .name = TYPE_ESPRESSOBIN_MACHINE,
        .parent = TYPE_MACHINE,
        .instance_size = sizeof(EspressobinMachine),
        .instance_init = espressobin_instance_init,
        .instance_finalize = espressobin_instance_finalize,
        .class_init = espressobin_class_init,
    },
};

DEFINE_TYPES(espressobin_types)

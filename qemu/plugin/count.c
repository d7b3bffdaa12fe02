/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A TCG plugin that counts the instructions a guest executes.
 *
 *   qemu-system-aarch64 -plugin libcount.so,total=PATH[,blocks=PATH][,memory=on] ...
 *
 * PATH becomes a file with one `struct total` in it, in native-endian words. It
 * is mapped, not written, so whoever reads the file sees the counts as they
 * stand, at any moment and without asking QEMU.
 *
 *   guest instruction --inline add--> counter --mapping--> PATH --read--> ./x bench
 *
 * With `blocks` a second file says where: a `struct block` for each translation
 * block, in the order of translation, for a profile of the guest.
 *
 * With `memory` loads and stores are looked at, too: how many of them go to
 * devices, and how many bytes are stored in memory. That costs a call for each,
 * so it is off unless asked for.
 *
 * The count is per instruction, not per translation block: a block left early
 * by an exception counts only as far as it got. An instruction that faults and
 * is repeated counts twice, as it is begun twice. With several vCPUs the count
 * is the sum over all of them.
 *
 * Up to API version 1 (QEMU 8.2 and older) QEMU adds straight into the mapping,
 * and not atomically: exact for one vCPU, so more are refused. Later versions
 * add into a "scoreboard" with a place for each vCPU, whose sum is copied to
 * the mapping at the start of every block and whenever a vCPU goes idle: the
 * total then lags by at most one block of each vCPU that runs, and by nothing
 * while they sleep.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <qemu-plugin.h>

#define HAVE_SCOREBOARD (QEMU_PLUGIN_VERSION >= 2)

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

/* What PATH holds. */
struct total {
    _Atomic uint64_t instructions;
    _Atomic uint64_t device_loads;  /* from here on: with `memory` only */
    _Atomic uint64_t device_stores;
    _Atomic uint64_t bytes_stored;  /* in memory, not to devices */
};

/* One translation block. An address appears again when QEMU translates it again. */
struct block {
    uint64_t address;      /* virtual */
    uint64_t instructions; /* in the block; 0: the end of the list */
    _Atomic uint64_t executed; /* so many of them, all executions together */
};

/* Room for the blocks of a small kernel; of a large one the rest is left out. */
enum { BLOCKS = 1 << 17 };

/* The mapped totals. */
static struct total *total;
static bool memory;

/* The mapped blocks, if they are wanted. Each vCPU translates for itself. */
static struct block *blocks;
static atomic_size_t used;

#if HAVE_SCOREBOARD
static qemu_plugin_u64 executed;

static void publish(void)
{
    uint64_t sum = qemu_plugin_u64_sum(executed);
    uint64_t shown = total->instructions;

    /* Another vCPU may have summed later and written earlier: never go back. */
    while (shown < sum && !atomic_compare_exchange_weak(&total->instructions, &shown, sum)) {
    }
}

static void block_starts(unsigned int vcpu, void *block)
{
    (void)vcpu;
    publish();
    if (block) {
        ((struct block *)block)->executed += ((struct block *)block)->instructions;
    }
}

static void vcpu_idles(qemu_plugin_id_t id, unsigned int vcpu)
{
    (void)id;
    (void)vcpu;
    publish();
}
#endif

static void memory_accessed(unsigned int vcpu, qemu_plugin_meminfo_t info, uint64_t address,
                            void *data)
{
    struct qemu_plugin_hwaddr *place = qemu_plugin_get_hwaddr(info, address);
    bool store = qemu_plugin_mem_is_store(info);

    (void)vcpu;
    (void)data;
    if (place && qemu_plugin_hwaddr_is_io(place)) {
        *(store ? &total->device_stores : &total->device_loads) += 1;
    } else if (store) {
        total->bytes_stored += 1ull << qemu_plugin_mem_size_shift(info);
    }
}

/* The next record, or NULL if there is none. */
static struct block *new_block(struct qemu_plugin_tb *tb, size_t instructions)
{
    struct block *block;
    size_t place;

    if (!blocks || used >= BLOCKS || (place = used++) >= BLOCKS) {
        return NULL;
    }
    block = &blocks[place];
    block->address = qemu_plugin_tb_vaddr(tb);
    block->instructions = instructions;
    return block;
}

static void block_translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    size_t i, n = qemu_plugin_tb_n_insns(tb);
    struct block *block = new_block(tb, n);

    (void)id;
#if HAVE_SCOREBOARD
    qemu_plugin_register_vcpu_tb_exec_cb(tb, block_starts, QEMU_PLUGIN_CB_NO_REGS, block);
#else
    if (block) {
        qemu_plugin_register_vcpu_tb_exec_inline(
            tb, QEMU_PLUGIN_INLINE_ADD_U64, (void *)&block->executed, n);
    }
#endif
    for (i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
#if HAVE_SCOREBOARD
        qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(
            insn, QEMU_PLUGIN_INLINE_ADD_U64, executed, 1);
#else
        qemu_plugin_register_vcpu_insn_exec_inline(
            insn, QEMU_PLUGIN_INLINE_ADD_U64, (void *)&total->instructions, 1);
#endif
        if (memory) {
            qemu_plugin_register_vcpu_mem_cb(
                insn, memory_accessed, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW, NULL);
        }
    }
}

/* Maps so many bytes of `path`, zeroed. Says why and returns NULL if it cannot. */
static void *map_file(const char *path, size_t size)
{
    void *map = MAP_FAILED;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd >= 0 && ftruncate(fd, size) == 0) {
        map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (map == MAP_FAILED) {
        perror(path);
        map = NULL;
    }
    if (fd >= 0) {
        close(fd);
    }
    return map;
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info,
                                           int argc, char **argv)
{
    const char *total_path = NULL, *blocks_path = NULL;
    int i;

    for (i = 0; i < argc; i++) {
        if (strncmp(argv[i], "total=", 6) == 0) {
            total_path = argv[i] + 6;
        } else if (strncmp(argv[i], "blocks=", 7) == 0) {
            blocks_path = argv[i] + 7;
        } else if (strcmp(argv[i], "memory=on") == 0) {
            memory = true;
        } else {
            fprintf(stderr, "count: unknown option '%s'\n", argv[i]);
            return -1;
        }
    }
    if (!total_path) {
        fprintf(stderr, "count: say where the total goes: total=PATH\n");
        return -1;
    }
    if (!info->system_emulation) {
        fprintf(stderr, "count: counts machines, not programs\n");
        return -1;
    }
    if (!HAVE_SCOREBOARD && info->system.max_vcpus != 1) {
        fprintf(stderr, "count: with this QEMU exact for a machine with one vCPU only\n");
        return -1;
    }
    total = map_file(total_path, sizeof *total);
    if (!total) {
        return -1;
    }
    if (blocks_path) {
        blocks = map_file(blocks_path, BLOCKS * sizeof *blocks);
        if (!blocks) {
            return -1;
        }
    }
#if HAVE_SCOREBOARD
    executed = qemu_plugin_scoreboard_u64(qemu_plugin_scoreboard_new(sizeof(uint64_t)));
    qemu_plugin_register_vcpu_idle_cb(id, vcpu_idles);
#endif
    qemu_plugin_register_vcpu_tb_trans_cb(id, block_translated);
    return 0;
}

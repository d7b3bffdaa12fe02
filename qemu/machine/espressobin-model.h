/*
 * The ESPRESSObin model's C ABI; qemu/machine/ffi/src/lib.rs is the other half.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ESPRESSOBIN_MODEL_H
#define ESPRESSOBIN_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct EspressobinModel EspressobinModel;

typedef struct {
    void *opaque;
    bool (*read)(void *opaque, uint64_t address, uint8_t *data, size_t len);
    bool (*write)(void *opaque, uint64_t address, const uint8_t *data, size_t len);
} EspressobinDma;

typedef struct {
    uint32_t variant;
    bool from_uboot;
    bool sd_card;
    bool strict;
    bool wire_pace;
    uint32_t rx_backlog;
    uint64_t ram_bytes;
} EspressobinConfig;

EspressobinModel *espressobin_new(const EspressobinConfig *config, const EspressobinDma *dma, const char *doubts,
                                  const char *faults, char *error, size_t capacity);
bool espressobin_set_script(EspressobinModel *model, const char *script, const char *trace, char *error, size_t capacity);
bool espressobin_take_script_ended(EspressobinModel *model);
uint64_t espressobin_read(EspressobinModel *model, uint64_t now, uint32_t offset, uint32_t size);
void espressobin_write(EspressobinModel *model, uint64_t now, uint32_t offset, uint32_t size, uint64_t value);
void espressobin_advance(EspressobinModel *model, uint64_t now);
uint64_t espressobin_next_event(const EspressobinModel *model);
void espressobin_reset(EspressobinModel *model, uint64_t now);
bool espressobin_take_reset_request(EspressobinModel *model);
uint32_t espressobin_line_count(void);
uint32_t espressobin_line_spi(uint32_t n);
uint32_t espressobin_lines(const EspressobinModel *model);
void espressobin_set_cable(EspressobinModel *model, uint64_t now, uint32_t socket, bool plugged);
bool espressobin_can_receive(const EspressobinModel *model);
void espressobin_frame_in(EspressobinModel *model, uint64_t now, uint32_t socket, const uint8_t *data, size_t len);
size_t espressobin_take_frame(EspressobinModel *model, uint32_t *socket, uint8_t *buffer, size_t capacity);
size_t espressobin_take_console(EspressobinModel *model, uint8_t *buffer, size_t capacity);
uint32_t espressobin_console_room(const EspressobinModel *model);
void espressobin_console_in(EspressobinModel *model, uint64_t now, const uint8_t *data, size_t len);
bool espressobin_take_guest_error(EspressobinModel *model, char *buffer, size_t capacity);
uint64_t espressobin_guest_error_count(const EspressobinModel *model);
bool espressobin_stop_reason(const EspressobinModel *model, char *buffer, size_t capacity);
void espressobin_counters(const EspressobinModel *model, char *buffer, size_t capacity);
bool espressobin_set_faults(EspressobinModel *model, const char *faults, char *error, size_t capacity);

#endif

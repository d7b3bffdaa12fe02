/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What newer versions of qemu-plugin.h need of GLib: the names of two types
 * that it passes by pointer and that this plugin never touches. With this file
 * the plugin builds without GLib's development package.
 */
typedef struct _GArray GArray;
typedef struct _GByteArray GByteArray;

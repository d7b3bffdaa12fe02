# Ristretto's boot script. `./x sdcard` makes /boot.scr of it; U-Boot's distro boot finds and runs that, older
# environments are taught to (see readme.txt). What people change is in ristretto.txt on the other partition.
#
# Only commands that U-Boot has had since 2015 are used, and no address of its environment: in environments of that
# time they lie in memory of the secure firmware, 0x04000000 to 0x05400000. Why: docs/decisions/0013-sd-card.md.

# By hand there may be no distro boot that says where the card is: then it is in the board's slot.
if test -z "${devtype}"; then
    setenv devtype mmc
    setenv devnum 0
fi

if test "${board}" = qemu-arm; then
    # Not this board at all, but QEMU's machine virt. Its memory is elsewhere, and it comes with its own devicetree.
    setenv image_at ${kernel_addr_r}
    setenv tree_at ${fdtcontroladdr}
else
    setenv image_at 0x08000000
    setenv tree_at 0x07000000
fi

setenv bootargs
setenv espressobin
if fatload ${devtype} ${devnum}:2 ${image_at} ristretto.txt; then
    env import -t -r ${image_at} ${filesize}
else
    echo "No ristretto.txt on partition 2: booting without settings."
fi

# Which tree: the line in ristretto.txt, else what the environment says, else what U-Boot finds out about the board,
# which is the default of $fdtfile. A name that leads nowhere is not the end: v5's tree differs in the sockets' names.
if test "${board}" != qemu-arm; then
    if test "${espressobin}" = v5; then
        setenv tree marvell/armada-3720-espressobin.dtb
    elif test -n "${espressobin}"; then
        setenv tree marvell/armada-3720-espressobin-${espressobin}.dtb
    else
        if test -z "${fdtfile}"; then
            env default fdtfile
        fi
        setenv tree ${fdtfile}
    fi
    if ext4load ${devtype} ${devnum}:1 ${tree_at} /boot/dtb/${tree}; then
        echo "Devicetree: ${tree}"
    elif ext4load ${devtype} ${devnum}:1 ${tree_at} /boot/dtb/marvell/${tree}; then
        # Some environments name the file alone.
        echo "Devicetree: marvell/${tree}"
    else
        echo "No devicetree /boot/dtb/${tree}: taking the one for v5."
        ext4load ${devtype} ${devnum}:1 ${tree_at} /boot/dtb/marvell/armada-3720-espressobin.dtb
    fi
fi

echo "Bootargs: ${bootargs}"
if ext4load ${devtype} ${devnum}:1 ${image_at} /boot/Image; then
    booti ${image_at} - ${tree_at}
fi

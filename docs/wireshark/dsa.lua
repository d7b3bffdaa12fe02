-- Marvell's switch tags for Wireshark and tshark, which know neither linktype 284 (DSA) nor 285 (EtherType DSA):
--
--   tshark -X lua_script:docs/wireshark/dsa.lua -r capture.pcapng
--
-- Behind the tag, the frame is shown as it is without. Also decodes EtherType 0xdada in captures of Linux's conduits,
-- whose linktype is Ethernet. Spec: tcpdump.org/linktypes/marvell-switch-tag.html.

local EDSA = 0xdada
local TO_CPU, FROM_CPU, TO_SNIFFER, FORWARD = 0, 1, 2, 3
local modes = {
    [TO_CPU] = "To CPU", [FROM_CPU] = "From CPU", [TO_SNIFFER] = "To Sniffer", [FORWARD] = "Forward",
}

local dsa = Proto("marvell_dsa", "Marvell switch tag")
local field = {
    mode = ProtoField.uint32("marvell_dsa.mode", "Mode", base.DEC, modes, 0xc0000000),
    tagged = ProtoField.bool("marvell_dsa.tagged", "VLAN tag on the wire", 32, nil, 0x20000000),
    device = ProtoField.uint32("marvell_dsa.device", "Device", base.DEC, nil, 0x1f000000),
    port = ProtoField.uint32("marvell_dsa.port", "Port", base.DEC, nil, 0x00f80000),
    code = ProtoField.uint32("marvell_dsa.code", "Code", base.DEC),
    priority = ProtoField.uint32("marvell_dsa.priority", "Priority", base.DEC, nil, 0x0000e000),
    vid = ProtoField.uint32("marvell_dsa.vid", "VLAN", base.DEC, nil, 0x00000fff),
}
dsa.fields = field

-- Shows the tag at `at`.
local function show_tag(tvb, at, tree)
    local tag = tvb(at, 4)
    local mode, port = tag:bitfield(0, 2), tag:bitfield(8, 5)
    local branch = tree:add(dsa, tag)
    branch:append_text(string.format(": %s, device %d, port %d", modes[mode], tag:bitfield(3, 5), port))
    for _, name in ipairs { "mode", "tagged", "device", "port" } do
        branch:add(field[name], tag)
    end
    if mode == TO_CPU then
        branch:add(field.code, tag, tag:bitfield(13, 2) * 2 + tag:bitfield(19, 1))
    end
    branch:add(field.priority, tag)
    branch:add(field.vid, tag)
end

-- A whole frame, of linktype 284 or 285.
function dsa.dissector(tvb, pinfo, tree)
    if tvb:len() < 18 then
        return 0
    end
    local len = 4
    if tvb(12, 2):uint() == EDSA then
        len = 8
    end
    if tvb:len() < 14 + len then
        return 0
    end
    show_tag(tvb, 12 + len - 4, tree)
    local plain = tvb(0, 12):bytes() .. tvb(12 + len):bytes()
    Dissector.get("eth_withoutfcs"):call(plain:tvb("Without tag"), pinfo, tree)
end

-- What is behind EtherType 0xdada.
local behind = Proto("marvell_edsa", "Marvell EtherType switch tag")
function behind.dissector(tvb, pinfo, tree)
    if tvb:len() < 8 then
        return 0
    end
    show_tag(tvb, 2, tree)
    DissectorTable.get("ethertype"):try(tvb(6, 2):uint(), tvb(8):tvb(), pinfo, tree)
end

-- Linktypes that Wireshark does not know all have this number.
local UNKNOWN = 0
DissectorTable.get("wtap_encap"):add(UNKNOWN, dsa)
DissectorTable.get("ethertype"):add(EDSA, behind)

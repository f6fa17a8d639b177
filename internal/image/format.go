package image

import (
	"bytes"
	"encoding/binary"
)

// Format is what a file looks like by its first bytes.
type Format uint8

// The formats told apart. Raw is everything that carries no known mark, file
// systems and partition tables included.
const (
	Raw Format = iota
	QCOW2
	QCOW1
	QED
	VMDK
	VMDKText
	VHD
	VHDX
	VDI
	Parallels
	OVA
	Zip
	SevenZip
	Gzip
	XZ
	Zstd
	Bzip2
	LZ4
	HTML
	formats
)

// SniffLen is how many of a file's first bytes Sniff wants to see.
const SniffLen = 512

// trait is what people are told about a format: its name, and what turns it
// into a raw disk, with FILE for the file.
type trait struct {
	name   string
	advice string
}

const viaQemuImg = "convert it first: qemu-img convert -O raw FILE disk.raw"

// traits describes every format.
func (f Format) trait() trait {
	switch f {
	case Raw:
		return trait{"raw disk", ""}
	case QCOW2:
		return trait{"QCOW2 image", "import it as it is: holdfast image import FILE"}
	case QCOW1:
		return trait{"QCOW image of version 1", viaQemuImg}
	case QED:
		return trait{"QED image", viaQemuImg}
	case VMDK:
		return trait{"VMDK image (VMware)", viaQemuImg}
	case VMDKText:
		return trait{"VMDK descriptor (VMware), which only names the files that hold the data",
			"convert it next to those files: qemu-img convert -O raw FILE disk.raw"}
	case VHD:
		return trait{"VHD image (Virtual PC, Azure)", "convert it first: qemu-img convert -f vpc -O raw FILE disk.raw"}
	case VHDX:
		return trait{"VHDX image (Hyper-V)", viaQemuImg}
	case VDI:
		return trait{"VDI image (VirtualBox)", viaQemuImg}
	case Parallels:
		return trait{"Parallels image", viaQemuImg}
	case OVA:
		return trait{"tar archive, as an OVA is", "unpack it (tar -xf FILE) and convert the disk in it: qemu-img convert -O raw DISK disk.raw"}
	case Zip:
		return trait{"zip archive", "unpack it first: unzip FILE"}
	case SevenZip:
		return trait{"7-Zip archive", "unpack it first: 7z x FILE"}
	case Gzip:
		return trait{"gzip-compressed file", "decompress it on the way: gzip -dc FILE | holdfast image import -"}
	case XZ:
		return trait{"xz-compressed file", "decompress it on the way: xz -dc FILE | holdfast image import -"}
	case Zstd:
		return trait{"zstd-compressed file", "decompress it on the way: zstd -dc FILE | holdfast image import -"}
	case Bzip2:
		return trait{"bzip2-compressed file", "decompress it on the way: bzip2 -dc FILE | holdfast image import -"}
	case LZ4:
		return trait{"lz4-compressed file", "decompress it on the way: lz4 -dc FILE | holdfast image import -"}
	case HTML:
		return trait{"web page", "the download was probably answered with an error page; look at it and download again"}
	}
	return trait{"file of an unknown format", ""}
}

// String returns the format's name for people.
func (f Format) String() string { return f.trait().name }

// mark is a string that stands at a place in files of a format.
type mark struct {
	at     int
	magic  string
	format Format
}

// Sniff tells the format of a file by its first bytes, at best SniffLen of
// them. Sources: each format's published specification.
func Sniff(head []byte) Format {
	for _, m := range [...]mark{
		{0, "QED\x00", QED},
		{0, "KDMV", VMDK},
		{0, "COWD", VMDK},
		{0, "# Disk DescriptorFile", VMDKText},
		{0, "conectix", VHD},
		{0, "cxsparse", VHD},
		{0, "vhdxfile", VHDX},
		{64, "\x7f\x10\xda\xbe", VDI},
		{0, "WithoutFreeSpace", Parallels},
		{0, "WithouFreSpacExt", Parallels},
		{257, "ustar", OVA},
		{0, "PK\x03\x04", Zip},
		{0, "7z\xbc\xaf\x27\x1c", SevenZip},
		{0, "\xfd7zXZ\x00", XZ},
		{0, "\x28\xb5\x2f\xfd", Zstd},
		{0, "\x04\x22\x4d\x18", LZ4},
	} {
		if len(head) >= m.at+len(m.magic) && string(head[m.at:m.at+len(m.magic)]) == m.magic {
			return m.format
		}
	}
	return sniffLoose(head)
}

// sniffLoose knows the marks that need more than a comparison: short ones,
// which a boot sector might begin with by chance, and text.
func sniffLoose(head []byte) Format {
	switch {
	case len(head) >= 8 && string(head[:4]) == "QFI\xfb":
		if binary.BigEndian.Uint32(head[4:]) == 1 {
			return QCOW1
		}
		return QCOW2
	case len(head) >= 4 && head[0] == 0x1f && head[1] == 0x8b && head[2] == 8 && head[3] < 0x20:
		return Gzip
	case len(head) >= 10 && string(head[:3]) == "BZh" && head[3] >= '1' && head[3] <= '9' &&
		string(head[4:10]) == "\x31\x41\x59\x26\x53\x59":
		return Bzip2
	}
	text := bytes.ToLower(bytes.TrimLeft(head[:min(len(head), 64)], "\ufeff \t\r\n"))
	if bytes.HasPrefix(text, []byte("<!doctype html")) || bytes.HasPrefix(text, []byte("<html")) {
		return HTML
	}
	return Raw
}

// vhdFooter is what the last 512 bytes of a fixed VHD, a raw disk otherwise,
// begin with.
const (
	vhdFooter     = "conectix"
	vhdFooterSize = 512
)

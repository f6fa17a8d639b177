package main

// target is one fuzz function.
type target struct {
	pkg  string // below internal/
	name string
}

// packages are those whose every fuzz target is run, the network's first.
func packages() []string {
	return []string{"export/nbd", "export/iscsi", "export/iscsi/scsi", "export/iscsi/pdu", "transport/tcp", "replica", "record", "blockmap", "store", "volume", "seal", "backup", "kept", "saved", "story", "account", "alert", "audit", "task", "image/fetch", "series", "program", "web", "passkey"}
}

// targets are the decoders of protocols, of records and of checkpoints.
func targets() []target {
	names := map[string][]string{
		"export/nbd":        {"FuzzHandshake", "FuzzTransmission", "FuzzExtended", "FuzzOptions", "FuzzContexts", "FuzzReplies"},
		"export/iscsi":      {"FuzzConnection"},
		"export/iscsi/scsi": {"FuzzCDB", "FuzzReservations"},
		"export/iscsi/pdu":  {"FuzzPDU", "FuzzText"},
		"transport/tcp":     {"FuzzFrame", "FuzzStream"},
		"replica": {"FuzzDecodeAsk", "FuzzDecodeReport", "FuzzDecodeBuild", "FuzzDecodeBlocks", "FuzzDecodeRecords",
			"FuzzDecodePin", "FuzzDecodeDiff", "FuzzDecodeSeat", "FuzzDecodeDigests"},
		"record":      {"FuzzDecodeHeader"},
		"blockmap":    {"FuzzPage", "FuzzOpenRoot"},
		"store":       {"FuzzCatalog", "FuzzBatchHeader", "FuzzSectors", "FuzzSlotDirectory", "FuzzScrubPage", "FuzzOverlayIndex"},
		"volume":      {"FuzzCarriedMap", "FuzzGroupAsk", "FuzzTake"},
		"seal":        {"FuzzOpen"},
		"backup":      {"FuzzReader"},
		"kept":        {"FuzzCopy", "FuzzItems"},
		"saved":       {"FuzzHeader"},
		"story":       {"FuzzParse"},
		"account":     {"FuzzParseHash", "FuzzRecords", "FuzzClaims"},
		"alert":       {"FuzzRecords"},
		"audit":       {"FuzzSegment"},
		"task":        {"FuzzTask"},
		"image/fetch": {"FuzzParseURL"},
		"series":      {"FuzzDecode"},
		"program":     {"FuzzArch", "FuzzTrial"},
		"web":         {"FuzzRecord", "FuzzSite"},
		"passkey":     {"FuzzAnswers"},
	}
	var out []target
	for _, p := range packages() {
		for _, n := range names[p] {
			out = append(out, target{p, n})
		}
	}
	return out
}

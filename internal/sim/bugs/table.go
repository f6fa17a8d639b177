package main

// edit replaces a text of a file, which must be there exactly once: when the
// code moves, the bug fails loudly instead of planting nothing.
type edit struct{ file, old, new string }

// bug is a mistake that somebody could make, as edits of the source.
type bug struct {
	name  string
	rule  string // the rule of the store, or the promise, that it breaks
	edits []edit
	test  string // that finds it as well; "": none is known
}

const (
	openGo       = "internal/volume/open.go"
	confirmGo    = "internal/volume/confirm.go"
	storeRootsGo = "internal/store/roots.go"
	healthGo     = "internal/health/health.go"
	joinGo       = "internal/volume/join.go"
	ioGo         = "internal/volume/io.go"
	memberGo     = "internal/volume/member.go"
	changeGo     = "internal/volume/reconfigure.go"
	writerGo     = "internal/replica/writer.go"
	rootsGo      = "internal/volume/roots.go"
	takeoverGo   = "internal/replica/takeover.go"
	authorityGo  = "internal/replica/authority.go"
	replicaGo    = "internal/store/replica.go"
	replayGo     = "internal/store/replay.go"
	headGo       = "internal/store/head.go"
	scanGo       = "internal/store/scan.go"
	mergeGo      = "internal/store/merge.go"
	ckptGo       = "internal/store/checkpoint.go"
	cleanerGo    = "internal/store/cleaner.go"
	fetchingGo   = "internal/store/fetching.go"
	workerGo     = "internal/agent/worker.go"
	guardGo      = "internal/agent/guard.go"
	sealGo       = "internal/seal/seal.go"
	keysGo       = "internal/provision/keys.go"
	renewGo      = "internal/volume/renew.go"
	recoverGo    = "internal/cluster/recover.go"
	mirrorGo     = "internal/cluster/mirror.go"
)

// bugs are the bugs that are planted, in the order of the rules.
func bugs() []bug {
	return []bug{
		{name: "skip-epoch-check", rule: "authority below the promise is refused (3)", edits: []edit{
			{authorityGo, "\tif e != a.promise {\n\t\tif e < a.promise {", "\tif e > a.promise {\n\t\tif e < a.promise {"}}},
		{name: "acknowledge-before-ejection", rule: "nothing is acknowledged without a member before its ejection is known (1)", edits: []edit{
			{changeGo, "\tv.eject = append(v.eject, p)\n", "\tv.eject = append(v.eject, p)\n\tv.m.Remove(p.i)\n"}}},
		{name: "accept-a-gap", rule: "a replica takes only the next LSN (7)", edits: []edit{
			{replicaGo, "\tif !x.Follows(h.prefix) {\n\t\treturn holdfast.Errorf(holdfast.Gap, \"replica %s: record %v", "\tif !x.Follows(h.prefix) && x.LSN.Epoch() != h.prefix.Epoch() {\n\t\treturn holdfast.Errorf(holdfast.Gap, \"replica %s: record %v"}}},
		{name: "ignore-boot-id", rule: "a replica that lost its memory cannot vouch (7)",
			test: "go test ./internal/replica -run TestAReplicaThatForgot", edits: []edit{
				{writerGo, "\tif boot != m.Boot {\n\t\treturn Forgot", "\tif false {\n\t\treturn Forgot"}}},
		{name: "a-disk-forgets-under-the-same-boot-id", rule: "a replica that lost its memory cannot vouch (7)",
			test: "go test ./internal/volume -run TestAReplicaWhoseDisk", edits: []edit{
				{renewGo, "\tif kept {\n", "\tif true {\n"}}},
		{name: "read-from-who-forgot", rule: "a replica that lost its memory cannot vouch (6, 7)",
			test: "go test ./internal/volume -run TestWhoForgotIsNotReadFrom", edits: []edit{
				{memberGo, "prefix < a.Upto {", "prefix < a.Upto && false {"}}},
		{name: "stop-recovery-at-rot", rule: "what a later batch calls synced and cannot be read is damage, not a torn tail (1)", edits: []edit{
			{scanGo, "later >= pos.seq {", "later >= pos.seq && false {"}}},
		{name: "accept-an-old-generation", rule: "a batch is of its segment's present use (8)", edits: []edit{
			{scanGo, "\t\tok = ok && h.seq == pos.seq && (h.seg == pos.seg || pos.block == 0 && h.seg > pos.seg)\n", "\t\tok = ok && len(sc.batches) < 1<<14\n"}}},
		{name: "checkpoint-above-stable", rule: "checkpoint and cleaner touch nothing above stable (8, 11)", edits: []edit{
			{mergeGo, "h.merge(h.stable, mergeSlice)", "h.merge(holdfast.LSN(math.MaxUint64), mergeSlice)"}}},
		{name: "acknowledge-without-the-joiner", rule: "a joiner counts before its add is sent (1, 7)", edits: []edit{
			{joinGo, "\tv.m.SetInSync(j.i)\n\tv.mu.Unlock()\n", "\tv.mu.Unlock()\n"},
			{joinGo, "\tv.stats.Joins++\n", "\tv.stats.Joins++\n\tv.m.SetInSync(j.i)\n"},
			{writerGo, "\t\tif m := &w.members[i]; !m.Gone {\n\t\t\tl = min(l, m.Acked)", "\t\tif m := &w.members[i]; !m.Gone && m.InSync {\n\t\t\tl = min(l, m.Acked)"}}},
		{name: "flushed-is-not-on-the-joiner", rule: "what was flushed before an add is on the joiner's disk (1)",
			test: "go test ./internal/volume -run TestWhatWasFlushedBeforeAJoin", edits: []edit{
				{joinGo, "flushed := min(v.m.Stable(), v.m.Acked())", "flushed := holdfast.LSN(0)"}}},
		{name: "prune-across-a-revert", rule: "a delta by highest LSN is valid only inside one lineage (7)", edits: []edit{
			{rootsGo, "straight := h.since >= shows.Reverted || h.since <= first", "straight := true"}}},
		{name: "lose-a-root-in-resync", rule: "a resync brings the missing roots too (7)", edits: []edit{
			{joinGo, "From: from, Roots: shows.Roots}", "From: from, Roots: shows.Roots[:len(shows.Roots)/2]}"}}},
		{name: "resume-an-old-cache", rule: "the cache generation rises when no member kept its memory (12)", edits: []edit{
			{openGo, "\tif !cut.Kept {\n", "\tif false {\n"}}},
		{name: "serve-an-unacknowledged-record", rule: "a read that meets an unacknowledged record waits for it (6)", edits: []edit{
			{ioGo, "\tif v.m.Acked() == v.m.Issued() {\n", "\tif true {\n"}}},
		{name: "reuse-a-victim-early", rule: "a victim is reused only after its new directory is on disk (8)", edits: []edit{
			{cleanerGo, "\t\t\tc.empty++\n", "\t\t\tc.empty++\n\t\t\tif g := c.victim; g.resident == 0 && g.readers == 0 {\n\t\t\t\ts.space.free = append([]uint32{g.place}, s.space.free...)\n\t\t\t\tif g.place, g.guests = noPlace, nil; g.nlive == 0 {\n\t\t\t\t\tdelete(s.space.segs, g.num)\n\t\t\t\t}\n\t\t\t}\n"}}},
		{name: "lease-from-the-answer", rule: "a lease counts from before the question (6)", edits: []edit{
			{writerGo, "max(m.LeaseUntil, asked+LeaseWriter)", "max(m.LeaseUntil, now+LeaseWriter)"}}},
		{name: "confirm-without-asking", rule: "a confirmed read has the answers of all in-sync replicas (6)", edits: []edit{
			{confirmGo, "\t\t\tc.left++\n\t\t\tv.askWhether(i, now)\n", "\t\t\t_ = now\n"}}},
		{name: "keep-what-was-removed", rule: "after everything was deleted a disk is as empty as a new one", edits: []edit{
			{storeRootsGo, "\ts.drop(h.base.Snapshot(), above, nil)\n", "\t_ = above\n"}}},
		{name: "do-not-tell-who-is-away", rule: "what is wrong is told as long as it is", edits: []edit{
			{healthGo, "b.byHost[h.ID] = b.cause(\"host-away/\"", "b.byHost[h.ID] = (&board{}).cause(\"host-away/\""}}},
		{name: "read-without-a-lease", rule: "a read is served only under leases (6)", edits: []edit{
			{ioGo, "\tcase !v.m.Leased(v.localID, v.s.Clock.Now()):\n\t\tv.leaseless(o)\n\tdefault:", "\tdefault:"}}},
		{name: "open-without-outwaiting", rule: "an opening outwaits the leases of earlier writers (6)", edits: []edit{
			{openGo, "\tclock.Sleep(t.s.Clock, cut.Wait-(t.s.Clock.Now()-asked))\n", "\t_ = asked\n"}}},
		{name: "health-at-the-start-of-a-rebuild", rule: "health is granted when a rebuild is verified (1, 7)", edits: []edit{
			{joinGo, "\tc.upto = base\n\treturn j.copy(src, c)\n", "\tc.upto = base\n\tif err := j.admit(); err != nil {\n\t\treturn err\n\t}\n\treturn j.copy(src, c)\n"},
			{takeoverGo, "return !r.Building && !r.Damaged", "return !r.Damaged"}}},
		{name: "void-a-flushed-suffix", rule: "recovery goes up to the longest whole prefix (1)", edits: []edit{
			{scanGo, "b.seq > synced && !s.wholePayload(b, vols)", "b.seq > synced"}}},
		{name: "a-promise-in-memory-only", rule: "a promise is on disk before it is told (3)",
			test: "go test ./internal/store -run TestAPromiseOutlivesAPowerCut", edits: []edit{
				{memberGo, "if err := m.r.Promise(e); err != nil {", "if err := error(nil); err != nil {"}}},
		{name: "unknown-taken-for-done", rule: "an unknown outcome is read again (1, 3)", edits: []edit{
			{changeGo, "\t\tif err == nil {\n\t\t\tv.adopt(rec, next)\n", "\t\tif err == nil || holdfast.IsKind(err, holdfast.Unknown) {\n\t\t\tv.adopt(rec, next)\n"}}},
		{name: "drop-a-re-proposed-tail", rule: "the cut is the highest undamaged prefix (1)", edits: []edit{
			{takeoverGo, "r.Prefix > c.LSN", "r.Prefix < c.LSN"}}},
		{name: "keep-a-dead-suffix", rule: "a returning replica is cut to what it shares (11)", edits: []edit{
			{rootsGo, "min(replica.Common(rep.History, rep.Prefix, v.history, issued), stable)", "min(rep.Prefix, issued, stable)"}}},
		{name: "start-a-VM-twice", rule: "no two machines of a VM run at a time (14)", edits: []edit{
			{guardGo, "left := standFor - since; left <= 0 || given {", "left := standFor - 0*since; given {"}}},
		{name: "adopt-a-machine-of-a-dead-generation", rule: "a machine runs at its VM's generation (4)", edits: []edit{
			{workerGo, " || m.Spec().Generation != vm.Generation) {\n\t\tw.end", ") {\n\t\tw.end"}}},
		{name: "go-on-without-the-cache", rule: "a guest whose unflushed writes are gone starts again (12)", edits: []edit{
			{workerGo, "\tif lostCache(spec, vols) {\n\t\t// Its", "\tif false {\n\t\t// Its"}}},
		{name: "trust-what-is-read", rule: "every read is compared with the map's hash (2)", edits: []edit{
			{fetchingGo, "stored) != p.f.hash {", "stored) != p.f.hash && false {"}}},
		{name: "share-a-clones-key", rule: "every volume, clones included, has a data key of its own (5)", edits: []edit{
			{keysGo, "\town, err := keyring.Wrap(&under, rec.ID, &data, p.Rand)\n", "\tif len(origin) > 0 {\n\t\tdata, _ = origin[0].Unwrap(&under)\n\t}\n\town, err := keyring.Wrap(&under, rec.ID, &data, p.Rand)\n"}}},
		{name: "reuse-a-nonce-after-a-restart", rule: "no key and nonce seal two contents (5)", edits: []edit{
			{sealGo, "PutUint64(x.nonce[4:], uint64(lsn))", "PutUint64(x.nonce[4:], lsn.Counter())"}}},
		{name: "write-through-a-barrier", rule: "a group snapshot is cut behind barriers (13)", edits: []edit{
			{ioGo, "if v.barrier != nil || v.bytes > window || len(v.rec.InSync) < v.rec.Min {", "if v.bytes > window || len(v.rec.InSync) < v.rec.Min {"}}},
		{name: "recover-without-a-gap", rule: "no epoch is given out again by a recovery from records that are older than it (5)", edits: []edit{
			{recoverGo, "min(o.Epoch+gap+holdfast.Epoch(r.s.Chance(uint32(EpochGap))), holdfast.MaxEpoch)", "min(o.Epoch+0*gap, holdfast.MaxEpoch)"}}},
		{name: "leave-a-torn-batch-out", rule: "what a loss of all memory leaves is a prefix of what was written (1)", edits: []edit{
			{scanGo, "\t\t\tsc.batches = sc.batches[:i]\n\t\t\treturn\n", "\t\t\tb.entries = nil\n"},
			{replayGo, "\tif !e.rec.Follows(h.prefix) {\n\t\tr.markDamaged", "\tif false {\n\t\tr.markDamaged"}}},
		{name: "do-not-wait-for-the-last", rule: "whoever is in sync has every acknowledged write (7)", edits: []edit{
			{writerGo, "\t\tif m := &w.members[i]; !m.Gone {\n\t\t\tl = min(l, m.Acked)", "\t\tif m := &w.members[i]; !m.Gone && (i < 2 || i < len(w.members)-1) {\n\t\t\tl = min(l, m.Acked)"}}},
		{name: "share-a-snapshots-index", rule: "a snapshot never changes", edits: []edit{
			{headGo, "index: h.index.clone(), zeros", "index: h.index, zeros"}}},
		{name: "believe-an-older-backup", rule: "who has read later records opens nothing from older ones (1, 5)", edits: []edit{
			{mirrorGo, "\tif !back {\n", "\tif true {\n"}}},
	}
}

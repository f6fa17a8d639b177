package story

// Forms is the whole language. Types of values are in value.go.
func Forms() []Form {
	return []Form{
		{"racks", Topology, "make {racks:count} racks x {hosts:count} hosts", "racks a, b, c … with hosts a1, a2 … b1 …"},
		{"rack", Topology, "rack {rack:name} in site {site:name}", "the rack's site; without such lines there is one"},
		{"host", Topology, "host {host:name} in rack {rack:name} [disks {disks:count}] [of {size:size}] [clock {offset:time}] [drift {drift:num}]",
			"one host; what its disks hold; by how much its clock is ahead, and gains in parts of a million"},
		{"link", Topology, "link {a:place} {b:place} [latency {latency:time}] [jitter {jitter:time}] [loss {loss:share}] [rate {rate:size}]",
			"what is between two places, both ways; rate in bytes a second"},

		{"seed", Workload, "seed {seed:count}", "decides whatever the story does not"},
		{"clients", Workload, "clients {clients:count}", "each uses a volume of its own, v0, v1 …, all the time"},
		{"copies", Workload, "volume {volume:name} copies {copies:count}", "a client's volume has so many"},
		{"vms", Workload, "vms {vms:count}", "vm0, vm1 … are there from the beginning"},
		{"operations", Workload, "operations {operations:count}", "the clients stop after so many, all together; if the story has an `end`, they go on at leisure until then"},
		{"without", Workload, "without {what:operator|drains|groups|limits|second-disks|observer|forcing|memories|last-resort|damage|endgame}", "a part of what the seed would have going on is left out"},

		{"mix", Mix, "faults {kind:name} weight {weight:count}", "how often a kind of fault is drawn; kinds that are not named are not"},
		{"pace", Mix, "faults every {every:time} lasting {lasting:time}", "on average, while clients keep up"},

		{"kill", Fault, "kill {place} [for {for:times}]", "SIGKILL for the hosts' processes; started again after a while"},
		{"start", Fault, "start {place}", "the hosts' processes, where they were killed"},
		{"power off", Fault, "power off {place} [for {for:times}]", "everything ends at once and what was not synced is lost; the times are the hosts', one after the other"},
		{"power on", Fault, "power on {place}", ""},
		{"power cycle", Fault, "power cycle {place}", "off and on"},
		{"restart", Fault, "restart {place}", "the hosts' processes are killed and started again at once"},
		{"freeze", Fault, "freeze {place} [for {for:time}]", "the computers stand still, machines too"},
		{"freeze process", Fault, "freeze process {host:name} [for {for:time}]", "only Holdfast's process stands still"},
		{"suspend", Fault, "suspend {place} [for {for:time}]", "the computers stand still with all their clocks, and notice nothing"},
		{"calendar", Fault, "calendar {host:name} {way:forward|back} by {by:time}", "its calendar is set"},
		{"thaw", Fault, "thaw {place}", "what was frozen goes on"},

		{"cut", Fault, "cut {place} [from {from:names}] [{way:in|out}] [{plane:data|kv}] [for {for:time}]",
			"nothing gets through to others, or to the hosts named; in: nothing gets in, out: nothing out; data: between volumes and replicas, kv: to the control plane"},
		{"mend", Fault, "mend {place}", "what was cut there is whole"},
		{"heal", Fault, "heal", "all of the network is whole"},
		{"slow", Fault, "slow {host:name} {way:in|out} by {by:time} [for {for:time}]", "what it sends, or is sent, takes longer"},
		{"storm", Fault, "storm [for {for:time}]", "the network loses, doubles and reorders single frames"},

		{"kv away", Fault, "kv away [for {for:time}]", "the control plane has no majority anywhere"},
		{"kv leader", Fault, "kv leader [after {after:time}]", "the control plane changes its leader, which takes so long"},
		{"kv slow", Fault, "kv slow {by:time} [for {for:time}]", "its calls take up to so long, each way"},
		{"kv lossy", Fault, "kv lossy {loss:share} [for {for:time}]", "its answers get lost"},
		{"kv forget", Fault, "kv forget", "its watches break and its history is compacted"},

		{"disk slow", Fault, "disk slow {disk} {factor:factor} [for {for:time}]", ""},
		{"disk hang", Fault, "disk hang {disk} [for {for:time}]", "it answers nothing"},
		{"disk failsync", Fault, "disk failsync {disk}", "its next sync fails"},
		{"disk evict", Fault, "disk evict {disk}", "what a failed sync has left in a page cache only is not read from there any more"},
		{"disk flaky", Fault, "disk flaky {disk} syncs {syncs:share} writes {writes:share} [for {for:time}]", "some of them fail"},
		{"disk lose", Fault, "disk lose {disk} writes {writes:share} [for {for:time}]", "it says of some that they are done, and does not do them"},
		{"disk misdirect", Fault, "disk misdirect {disk} writes {writes:share} [for {for:time}]", "some of them go to a wrong place"},
		{"disk full", Fault, "disk full {disk} [for {for:time}]", "the file system under it has no room"},
		{"disk copy", Fault, "disk copy {disk}", "somebody keeps a copy of it"},
		{"disk restore", Fault, "disk restore {disk}", "the copy comes in its place, if its host has no power and no volume counts on it"},
		{"disk swap", Fault, "disk swap {host:name} with {other:name} [for {for:time}]", "their first disks change places"},
		{"disk pull", Fault, "disk pull {disk} [for {for:time}]", "everything asked of it fails"},

		{"machines stuck", Fault, "machines stuck {host:name} [for {for:time}]", "who starts a machine there waits"},

		{"start vm", Order, "start vm {vm:name}", "a VM that writes and verifies its disk; it is made if it is not there"},
		{"stop vm", Order, "stop vm {vm:name}", ""},
		{"drain", Order, "drain {place}", "hosts are to be empty"},
		{"undrain", Order, "undrain {place}", ""},
		{"read", Order, "read {volume:name} at {host:name} for {for:time}", "as long as that host takes itself for its writer, somebody reads there what the volume's client wrote last, and the client does not rest"},

		{"burst", Order, "burst {volume:name} for {for:time}", "the volume's client writes as fast as it can, and makes sure of nothing"},

		{"scrub", Order, "scrub {disk}", "somebody has all of it read and verified, and waits for the end of that"},
		{"force", Order, "force volume {volume:name}", "somebody opens a client's volume from a stale copy, the only one that is left, and says that the others will not come back"},

		{"keep vm", Order, "keep vm {vm:name} as {snapshot:name} with memory", "a snapshot of its disks and its memory"},
		{"set vm back", Order, "set vm {vm:name} back to {snapshot:name} [without {part:memory}]", "it is stopped, and goes on where it was then; without its memory it boots from the disks of then"},
		{"forget", Order, "forget {snapshot:name} of vm {vm:name}", "the snapshot goes, and the memory with it"},

		{"advance", Flow, "advance {for:time}", "time passes"},
		{"end", Flow, "end", "what goes on by itself goes on until then"},

		{"vm runs", Expect, "expect vm {vm:name} runs [within {within:time}]", "it runs where it is assigned; this is what the next two lines compare with"},
		{"vm stays", Expect, "expect vm {vm:name} stays", "it was neither moved nor started anew since"},
		{"vm moved", Expect, "expect vm {vm:name} moved [within {within:time}]", "it runs, and was given to another host since"},
		{"vm writes", Expect, "expect vm {vm:name} writes [within {within:time}]", "its guest flushes more than it had"},
		{"client goes on", Expect, "expect client {volume:name} goes on [within {within:time}]", "the client of that volume gets more done"},
		{"volume whole", Expect, "expect volume {volume:name} whole [within {within:time}]", "it has all its copies; a VM's disk is called as the VM"},
		{"everything whole", Expect, "expect everything whole [within {within:time}]", "every host is there, every volume whole, every VM runs"},
		{"nothing lost", Expect, "expect nothing lost", "every flushed byte is there"},
		{"condition", Expect, "expect condition {condition:name} {state:raised|cleared} [within {within:time}]", "what `holdfast status` names by this identity, up to its slash"},
	}
}

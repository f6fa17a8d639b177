package httpapi

import (
	v1 "github.com/holdfast-cloud/holdfast/api/v1"
	"github.com/holdfast-cloud/holdfast/internal/cluster"
	"github.com/holdfast-cloud/holdfast/internal/health"
)

// renderStatus puts together what people look at first. The judgement is
// health's, made from the same picture as the figures beside it.
func (p picture) renderStatus(self Self, r Report, w v1.Works) v1.Status {
	c := p.renderCluster()
	h := health.Summary(p.State, progressOf(w))
	s := v1.Status{Sentence: h.Sentence, Level: "ok", Simulated: self.Simulated, Host: renderSelf(self), Cluster: &c, Counts: p.counts(),
		CanLose: p.renderTolerance(h), Conditions: []v1.Condition{}, Work: p.renderWork(w)}
	for _, c := range h.Conditions {
		s.Conditions = append(s.Conditions, renderCause(c))
		if c.Severity != health.Info && s.Level != health.Error {
			s.Level = c.Severity
		}
	}
	if r.Full != "" {
		s.Sentence = "Nothing can be changed and nothing is restarted elsewhere: " + r.Full + ". Last known: " + s.Sentence
		s.Level = health.Error
		s.CanLose.Unknown = r.Full
		full := v1.Condition{ID: "etcd-full", Severity: health.Error, Text: r.Full}
		s.Conditions = append([]v1.Condition{full}, s.Conditions...)
	}
	if r.Stale != "" {
		s.Sentence = "This may be out of date: " + r.Stale + ". Last known: " + s.Sentence
		s.Level = health.Error
		s.CanLose.Unknown = r.Stale
		s.Conditions = append([]v1.Condition{unreached(self.External)}, s.Conditions...)
	}
	return s
}

// unreached says what it means that the control plane cannot be asked. Why stands
// in the sentence.
func unreached(external bool) v1.Condition {
	if external {
		return v1.Condition{ID: "etcd-away", Severity: health.Error,
			Text: "the external etcd that holds the control plane cannot be asked: nothing can be changed and nothing is restarted elsewhere until it answers; VMs go on where their volumes do"}
	}
	return v1.Condition{ID: "control-plane-away", Severity: health.Error,
		Text: "the control plane cannot be asked: nothing can be changed and nothing is restarted elsewhere until more than half of its voters are back; VMs go on where their volumes do"}
}

func renderCause(c health.Condition) v1.Condition {
	out := renderCondition(c.Condition)
	for _, e := range c.Effects {
		out.Effects = append(out.Effects, renderCause(e))
	}
	return out
}

func (p picture) renderTolerance(h health.Status) v1.CanLose {
	racks, hosts, notRacks, notHosts := health.Tolerable(h.Verdict, h.Plan)
	out := v1.CanLose{Racks: append([]string{}, racks...), Hosts: []string{}, NotRacks: notRacks}
	for _, id := range hosts {
		out.Hosts = append(out.Hosts, p.hostName(id))
	}
	for id, why := range notHosts {
		if out.NotHosts == nil {
			out.NotHosts = map[string]string{}
		}
		out.NotHosts[p.hostName(id)] = why
	}
	return out
}

// strayStatus is the status of a host that is in no cluster.
func strayStatus(self Self) v1.Status {
	return v1.Status{
		Sentence: "Host " + self.Name + " is in no cluster. Run 'holdfast cluster init --name NAME' to make one here, or 'holdfast host join CODE' to join one.",
		Level:    "warning", Host: renderSelf(self), Conditions: []v1.Condition{}, Work: []v1.Work{},
		CanLose: v1.CanLose{Racks: []string{}, Hosts: []string{}, Unknown: "this host is in no cluster"},
	}
}

// blindStatus is the status of a member that has no picture of the cluster.
func blindStatus(self Self, why error) v1.Status {
	return v1.Status{
		Sentence: "Nothing is known of the cluster: " + why.Error(),
		Level:    "error", Host: renderSelf(self), Conditions: []v1.Condition{unreached(self.External)}, Work: []v1.Work{},
		CanLose: v1.CanLose{Racks: []string{}, Hosts: []string{}, Unknown: why.Error()},
	}
}

func (p picture) counts() v1.Counts {
	c := v1.Counts{Racks: len(p.racks()), Hosts: len(p.Hosts), Disks: len(p.Disks)}
	for _, h := range p.hosts() {
		if p.alive(h.ID) {
			c.HostsAlive++
		}
		if h.Witness {
			c.Witnesses++
		}
	}
	for _, v := range p.vms() {
		if v.Deleted {
			continue
		}
		c.VMs++
		if v.Power == cluster.On {
			c.VMsOn++
			if s, _ := p.vmState(v); s == "running" {
				c.VMsRunning++
			}
		}
	}
	for _, v := range p.volumes() {
		switch p.volumeState(v) {
		case "deleting":
			continue
		case "degraded", "unavailable", "lost":
			c.VolumesDegraded++
		case "locked":
			if p.inSyncAlive(v) < v.Copies {
				c.VolumesDegraded++
			}
		}
		c.Volumes++
	}
	var none cluster.Host
	c.BytesTotal, c.BytesFree = p.space(none.ID)
	return c
}

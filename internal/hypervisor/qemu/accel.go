package qemu

// Accelerator implements hypervisor.Hypervisor.
func (h *Hypervisor) Accelerator() (name, why string) { return "tcg", "configured" }

// Package telemetry makes what a host measures readable for Prometheus. The
// names, kinds, labels and units of all figures stand in one table (Families);
// docs/METRICS.md is printed from it, and who offers a figure under another name
// gets an error instead of a scrape. Figures are gathered when somebody asks, so
// that they cost nothing in between, save what must be counted where it happens:
// the calls of the API (Calls).
package telemetry

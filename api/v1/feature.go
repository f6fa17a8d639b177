package v1

// Feature is something that the API of a host can do. Others may be older, while a
// cluster is upgraded.
type Feature struct {
	Name string `json:"name" doc:"Stays what it is for ever"`
	What string `json:"what" doc:"For people"`
}

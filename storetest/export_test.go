package storetest

// CaseNames returns the names of the suite's cases.
func CaseNames() []string {
	var names []string
	for _, c := range cases() {
		names = append(names, c.name)
	}
	return names
}

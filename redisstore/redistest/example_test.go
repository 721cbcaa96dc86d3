package redistest_test

import (
	"fmt"
	"log"

	"github.com/coatcheck-go/session/redisstore/redistest"
)

func Example() {
	node, err := redistest.New(redistest.Options{Config: []string{"appendonly yes", "appendfsync always"}})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()

	node.Do("SET", "greeting", "hello")
	node.Kill()
	node.Restart()
	fmt.Println(node.Do("GET", "greeting"))
	// Output: hello <nil>
}

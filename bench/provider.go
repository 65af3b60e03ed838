// A provider for the benchmark of the sidecar: fast enough not to be what is measured.
// `?burst` answers with 20 events at once, `?slow` with one every half second.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

const usage = `"usage":{"input_tokens":7,"output_tokens":5,"cache_read_input_tokens":5000,` +
	`"cache_creation_input_tokens":0}`

func main() {
	whole := `{"id":"msg_1","type":"message","role":"assistant","model":"claude-opus-4-8",` +
		`"content":[{"type":"text","text":"` + strings.Repeat("x", 800) + `"}],` +
		`"stop_reason":"end_turn","stop_sequence":null,` + usage + `}`
	first := event("message_start", `"message":{"id":"msg_1",`+usage+`}`)
	delta := event("content_block_delta",
		`"index":0,"delta":{"type":"text_delta","text":"some words of an answer"}`)
	last := event("message_delta", `"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}`)

	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.URL.RawQuery == "" {
			w.Header().Set("content-type", "application/json")
			io.WriteString(w, whole)
			return
		}
		w.Header().Set("content-type", "text/event-stream")
		events := []string{first}
		for len(events) < 19 {
			events = append(events, delta)
		}
		for _, each := range append(events, last) {
			io.WriteString(w, each)
			w.(http.Flusher).Flush()
			if r.URL.RawQuery == "slow" {
				time.Sleep(500 * time.Millisecond)
			}
		}
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	panic(http.Serve(listener, nil))
}

func event(kind, fields string) string {
	return fmt.Sprintf("event: %s\ndata: {\"type\":\"%s\",%s}\n\n", kind, kind, fields)
}

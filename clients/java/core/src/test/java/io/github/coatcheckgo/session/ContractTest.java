package io.github.coatcheckgo.session;

import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import io.github.coatcheckgo.testkit.RedisServer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicLong;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;

/** The contract suite, which all languages share. */
class ContractTest {
    private static final List<String> FILES = List.of("fields", "limits", "sessions", "users", "user-data", "hostile", "together");
    private static final Pattern PLACE = Pattern.compile("<(ns|i|(token|handle|key) ([^>]+))>");
    private static final AtomicLong IDS = new AtomicLong();
    private static final Duration REPEAT_FOR = Duration.ofSeconds(30);

    @TestFactory
    Stream<DynamicTest> contract() {
        List<DynamicTest> tests = new ArrayList<>();
        int left = 0;
        for (String file : FILES) {
            for (Map<String, Object> scenario : Vectors.cases(Vectors.object(Vectors.read("contract/" + file + ".json")).get("scenarios"))) {
                boolean own = needs(scenario, "own server");
                if (own && RedisServer.named() != null) {
                    left++;
                    continue;
                }
                tests.add(dynamicTest(file + ": " + scenario.get("name"), () -> {
                    try (RedisServer server = own ? RedisServer.start() : null) {
                        new Run(scenario, server == null ? Server.url() : server.url()).run();
                    }
                }));
            }
        }
        System.out.println("contract: " + tests.size() + " scenarios" + (left > 0 ? ", " + left + " left out: they need their own server" : ""));
        return tests.stream();
    }

    private static boolean needs(Map<String, Object> scenario, String what) {
        return scenario.get("needs") instanceof List<?> list ? list.contains(what) : what.equals(scenario.get("needs"));
    }

    private static final class Visitor {
        String token;
        String handle;
    }

    /** One run of a scenario. */
    private static final class Run {
        private final Map<String, Object> scenario;
        private final String url;
        private final String namespace = Server.namespace();
        private final Map<String, Visitor> visitors = new HashMap<>();
        private final ContractClients clients = new ContractClients();
        private Connection connection;

        Run(Map<String, Object> scenario, String url) {
            this.scenario = scenario;
            this.url = url;
        }

        void run() {
            connection = new Connection(url, Duration.ofSeconds(60));
            try {
                int n = 0;
                for (Map<String, Object> step : Vectors.cases(scenario.get("steps"))) {
                    n++;
                    step(step, "step " + n + " " + Json.write(step));
                }
            } finally {
                clients.close();
                connection.close();
            }
        }

        /** Makes a step, and again if the step asks for that, until it comes out as wanted. */
        private void attempt(Map<String, Object> step, Runnable make) {
            long end = System.nanoTime() + (Boolean.TRUE.equals(step.get("repeat")) ? REPEAT_FOR.toNanos() : 0);
            while (System.nanoTime() - end < 0) {
                try {
                    make.run();
                    return;
                } catch (AssertionError e) {
                    pause(10);
                }
            }
            make.run();
        }

        private void command(Map<String, Object> step, String about) {
            Object reply = redis(Vectors.cast(fill(step.get("redis"), null)), Boolean.TRUE.equals(step.get("everywhere")));
            if (step.containsKey("want")) {
                check(equal(fill(step.get("want"), null), reply), about + ": the reply is " + reply);
            }
        }

        private static void pause(long milliseconds) {
            try {
                Thread.sleep(milliseconds);
            } catch (InterruptedException e) {
                throw new IllegalStateException(e);
            }
        }

        private void step(Map<String, Object> step, String about) {
            if (step.containsKey("redis")) {
                attempt(step, () -> command(step, about));
            } else if (step.containsKey("text")) {
                String text = (String) fill(step.get("text"), null);
                if (step.get("cut") instanceof List<?> cut) {
                    text = text.substring(((Long) cut.get(0)).intValue(), Math.min(text.length(), ((Long) cut.get(1)).intValue()));
                }
                visitor((String) step.get("token")).token = (step.get("before") == null ? "" : step.get("before")) + text;
            } else if (step.containsKey("wait_ms")) {
                pause((Long) step.get("wait_ms"));
            } else if (step.containsKey("at once")) {
                atOnce(step, about);
            } else {
                attempt(step, () -> request(step, about));
            }
        }

        private void request(Map<String, Object> step, String about) {
            String unchanged = step.get("unchanged") == null ? null : keyOf(visitor((String) step.get("unchanged")).handle);
            Object before = unchanged == null ? null : sorted(unchanged);
            Map<String, Object> want = step.get("want") == null ? Map.of() : Vectors.object(fill(step.get("want"), null));
            Map<String, Object> reply = clients.step(message(step, (String) step.get("as"), (String) step.getOrDefault("on", "a"), null));
            learn((String) step.get("as"), reply);
            String wrong = mismatch(want, reply);
            check(wrong == null, about + ": " + wrong + " in " + reply);
            check(before == null || before.equals(sorted(unchanged)), about + ": the record has changed");
        }

        /**
         * Returns the record without what a touch changes: the revision and the time of the last
         * use.
         */
        private Object sorted(String key) {
            Map<String, Object> hash = new java.util.TreeMap<>(hashOf(redis(List.of("HGETALL", key), false)));
            hash.computeIfPresent("@s", (name, state) -> state instanceof String text && text.length() == 56
                ? text.substring(0, 24) + text.substring(36, 44) : state);
            return hash;
        }

        private static Map<String, Object> hashOf(Object reply) {
            Map<String, Object> hash = new HashMap<>();
            List<?> list = (List<?>) reply;
            for (int i = 0; i < list.size(); i += 2) {
                hash.put((String) list.get(i), list.get(i + 1));
            }
            return hash;
        }

        private Map<String, Object> message(Map<String, Object> step, String as, String on, Integer i) {
            Map<String, Object> client = new LinkedHashMap<>();
            client.put("url", url);
            client.put("namespace", namespace);
            if (scenario.get("options") != null) {
                client.putAll(Vectors.object(scenario.get("options")));
            }
            if (scenario.get("clients") != null && Vectors.object(scenario.get("clients")).get(on) != null) {
                client.putAll(Vectors.object(Vectors.object(scenario.get("clients")).get(on)));
            }
            client.put("name", on);
            Map<String, Object> m = new LinkedHashMap<>();
            m.put("id", IDS.incrementAndGet());
            m.put("client", client);
            if (as != null && visitor(as).token != null) {
                m.put("token", visitor(as).token);
            }
            for (String name : List.of("request", "open", "do")) {
                if (step.containsKey(name)) {
                    m.put(name, fill(step.get(name), i));
                }
            }
            return m;
        }

        private void learn(String as, Map<String, Object> reply) {
            if (as == null) {
                return;
            }
            if (reply.containsKey("token")) {
                visitor(as).token = (String) reply.get("token");
            }
            if (reply.get("session") != null) {
                visitor(as).handle = (String) reply.get("session");
            }
        }

        private void atOnce(Map<String, Object> step, String about) {
            List<Map<String, Object>> messages = new ArrayList<>();
            List<String> from = new ArrayList<>();
            for (Map<String, Object> element : Vectors.cases(step.get("at once"))) {
                List<?> visitorsOf = element.get("as") instanceof List<?> list ? list : java.util.Collections.singletonList(element.get("as"));
                List<?> on = element.get("on") instanceof List<?> list ? list : List.of(element.getOrDefault("on", "a"));
                int i = 0;
                for (Object as : visitorsOf) {
                    long times = element.get("times") == null ? 1 : (Long) element.get("times");
                    for (long t = 0; t < times; t++, i++) {
                        messages.add(message(element, (String) as, (String) on.get(i % on.size()), i));
                        from.add((String) as);
                    }
                }
            }
            List<Map<String, Object>> wants = new ArrayList<>();
            Vectors.cases(step.get("want")).forEach(w -> wants.add(Vectors.object(fill(w, null))));
            java.util.concurrent.ExecutorService threads = java.util.concurrent.Executors.newFixedThreadPool(messages.size());
            List<CompletableFuture<Map<String, Object>>> futures = new ArrayList<>();
            messages.forEach(m -> futures.add(CompletableFuture.supplyAsync(() -> clients.step(m), threads)));
            List<Map<String, Object>> replies = futures.stream().map(CompletableFuture::join).toList();
            threads.shutdown();
            for (int i = 0; i < replies.size(); i++) {
                learn(from.get(i), replies.get(i));
            }
            compare(step, about, wants, replies);
        }

        private void compare(Map<String, Object> step, String about, List<Map<String, Object>> wants, List<Map<String, Object>> replies) {
            for (Map<String, Object> reply : replies) {
                check(wants.stream().anyMatch(w -> mismatch(w, reply) == null), about + ": nobody wants " + reply);
            }
            for (Map<String, Object> want : wants) {
                long n = replies.stream().filter(r -> mismatch(want, r) == null).count();
                Object times = want.get("times");
                boolean right = times == null || (times instanceof List<?> range
                    ? n >= (Long) range.get(0) && n <= (Long) range.get(1) : n == (Long) times);
                check(right, about + ": " + n + " replies match " + want + " of " + replies);
                if (want.get("counted") instanceof List<?> counted) {
                    Map<String, Object> read = Map.of("do", List.of(List.of("count", counted.get(1))));
                    Map<String, Object> reply = clients.step(message(read, (String) counted.get(0), "a", null));
                    check(List.of(Long.toString(n)).equals(reply.get("values")), about + ": " + n + " are counted, not " + reply);
                }
            }
            if (Boolean.TRUE.equals(step.get("distinct"))) {
                check(replies.stream().map(r -> r.get("values")).distinct().count() == replies.size(), about + ": not distinct: " + replies);
            }
        }

        private static String mismatch(Map<String, Object> want, Map<String, Object> reply) {
            Object outcome = want.getOrDefault("outcome", "ok");
            boolean allowed = outcome instanceof List<?> list ? list.contains(reply.get("outcome")) : outcome.equals(reply.get("outcome"));
            if (!allowed) {
                return "the outcome is not " + outcome;
            }
            if (want.containsKey("values") && "ok".equals(reply.get("outcome")) && !equal(want.get("values"), reply.get("values"))) {
                return "the values are not " + want.get("values");
            }
            Object session = want.get("session");
            if (session instanceof Boolean there ? there != (reply.get("session") != null) : session != null && !session.equals(reply.get("session"))) {
                return "the session is not " + session;
            }
            if (want.containsKey("token")) {
                String token = !reply.containsKey("token") ? "none" : reply.get("token") == null ? "deleted" : "set";
                return token.equals(want.get("token")) ? null : "the token is " + token + ", not " + want.get("token");
            }
            return null;
        }

        /** Compares JSON: members of objects in any order, numbers by value. */
        private static boolean equal(Object a, Object b) {
            if (a instanceof Number x && b instanceof Number y) {
                return x.doubleValue() == y.doubleValue();
            }
            if (a instanceof List<?> x && b instanceof List<?> y) {
                boolean same = x.size() == y.size();
                for (int i = 0; same && i < x.size(); i++) {
                    same = equal(x.get(i), y.get(i));
                }
                return same;
            }
            if (a instanceof Map<?, ?> x && b instanceof Map<?, ?> y) {
                return x.keySet().equals(y.keySet()) && x.entrySet().stream().allMatch(e -> equal(e.getValue(), y.get(e.getKey())));
            }
            return a == null ? b == null : a.equals(b);
        }

        private Visitor visitor(String name) {
            return visitors.computeIfAbsent(name, n -> new Visitor());
        }

        private String keyOf(String handle) {
            return handle == null ? "" : SessionId.parse(handle).key(namespace);
        }

        private Object fill(Object o, Integer i) {
            if (o instanceof List<?> list) {
                List<Object> out = new ArrayList<>();
                list.forEach(e -> out.add(fill(e, i)));
                return out;
            }
            if (o instanceof Map<?, ?> map) {
                Map<String, Object> out = new LinkedHashMap<>();
                map.forEach((k, v) -> out.put((String) fill(k, i), fill(v, i)));
                return out;
            }
            if (!(o instanceof String text)) {
                return o;
            }
            return PLACE.matcher(text).replaceAll(m -> Matcher.quoteReplacement(place(m.group(1), m.group(2), m.group(3), i, m.group())));
        }

        private String place(String all, String what, String who, Integer i, String text) {
            if (all.equals("ns")) {
                return namespace;
            }
            if (all.equals("i")) {
                return i == null ? text : i.toString();
            }
            Visitor v = visitor(who);
            String value = switch (what) {
                case "token" -> v.token;
                case "handle" -> v.handle;
                default -> keyOf(v.handle);
            };
            return value == null ? "" : value;
        }

        private Object redis(List<Object> words, boolean everywhere) {
            return Server.on(connection, everywhere, words.toArray());
        }

        private void check(boolean right, String message) {
            if (!right) {
                fail(scenario.get("name") + ": " + message);
            }
            assertTrue(right);
        }
    }
}

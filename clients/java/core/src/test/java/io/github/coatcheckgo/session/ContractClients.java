package io.github.coatcheckgo.session;

import java.time.Clock;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;

/**
 * The step function of the contract suite: makes one request to this client, and reports the
 * outcome.
 */
final class ContractClients implements AutoCloseable {
    private record Client(RedisStore store, Sessions sessions) {}

    private record Open(Client client, Session session) {}

    private final Map<Object, Client> clients = new ConcurrentHashMap<>();
    private final Map<String, Open> requests = new ConcurrentHashMap<>();

    @Override
    public void close() {
        clients.values().forEach(c -> c.store.close());
    }

    /** Makes a step of the protocol. */
    Map<String, Object> step(Map<String, Object> step) {
        Map<String, Object> reply = new LinkedHashMap<>();
        reply.put("id", step.get("id"));
        String name = (String) step.get("request");
        boolean open = Boolean.TRUE.equals(step.get("open"));
        List<Object> values = new ArrayList<>();
        Session session = null;
        try {
            Open request = name == null ? null : requests.get(name);
            boolean first = request == null;
            if (first) {
                Client client = clients.computeIfAbsent(step.get("client"), o -> open(Vectors.object(o)));
                request = new Open(client, client.sessions.begin((String) step.get("token")));
            }
            session = request.session;
            List<?> actions = step.get("do") == null ? List.of() : (List<?>) step.get("do");
            if (first && !actions.stream().allMatch(a -> needsNoSession((List<?>) a)) || first && actions.isEmpty()) {
                session.read();
            }
            for (Object action : actions) {
                act(request.client, session, (List<?>) action, values);
            }
            if (open) {
                requests.put(name, request);
            } else {
                session.commitBeforeHeader(true);
            }
            reply.put("outcome", "ok");
        } catch (SessionException e) {
            open = false;
            reply.put("outcome", outcome(e));
            reply.put("error", e.toString());
            if (session != null) {
                session.abandon(e);
            }
        } catch (RuntimeException e) {
            open = false;
            reply.put("outcome", e instanceof IllegalArgumentException ? "invalid" : "other");
            reply.put("error", e.toString());
            if (session != null) {
                session.abandon(new SessionException(SessionException.Kind.INVALID, e.toString()));
            }
        }
        reply.put("values", values);
        if (session != null) {
            String handle = session.handle();
            reply.put("session", handle.isEmpty() ? null : handle);
            if (!open) {
                if (name != null) {
                    requests.remove(name);
                }
                if (session.newToken() != null || session.deletesToken()) {
                    reply.put("token", session.newToken());
                }
                session.touch();
                session.awaitTouch();
            }
        }
        return reply;
    }

    private static boolean needsNoSession(List<?> action) {
        return List.of("sessions", "count sessions", "revoke", "revoke user", "revoke everybody", "delete user", "data of").contains(action.get(0));
    }

    private static String outcome(SessionException e) {
        return switch (e.kind()) {
            case ENDED, UNAVAILABLE, TOO_LARGE, LIMIT, INVALID, DECODE, SEALED, TOO_MANY, REVOKED, NOT_FOUND, UNKNOWN_OUTCOME ->
                e.kind().name().toLowerCase(java.util.Locale.ROOT).replace('_', ' ');
            default -> "other";
        };
    }

    private static Client open(Map<String, Object> o) {
        Config c = new Config();
        duration(o, "idle_ms").ifPresent(c::idleTimeout);
        duration(o, "first_use_ms").ifPresent(c::firstUseTimeout);
        duration(o, "lifetime_ms").ifPresent(c::lifetime);
        duration(o, "rotate_ms").ifPresent(c::rotateEvery);
        duration(o, "max_remember_ms").ifPresent(c::maxRemember);
        duration(o, "clock_ms").ifPresent(d -> c.clock(Clock.offset(Clock.systemUTC(), d)));
        if (o.containsKey("max_size")) {
            c.maxSize((int) Vectors.number(o, "max_size"));
        }
        if (o.containsKey("max_per_user")) {
            c.maxPerUser((int) Vectors.number(o, "max_per_user"));
        }
        c.refuseExtra(Boolean.TRUE.equals(o.get("refuse_extra")));
        if (o.containsKey("keep_fields")) {
            c.keepFields(((List<?>) o.get("keep_fields")).stream().map(String.class::cast).toList());
        }
        if (o.containsKey("user_fields")) {
            c.userFields(Vectors.object(o.get("user_fields")).entrySet().stream().map(e -> field(e.getKey(), (String) e.getValue()))
                .toArray(Field[]::new));
        }
        duration(o, "user_data_timeout_ms").ifPresent(c::userDataTimeout);
        if (o.containsKey("keys")) {
            c.keys(((List<?>) o.get("keys")).stream().map(k -> HexFormat.of().parseHex((String) k)).toList());
        }
        if (o.containsKey("user_key")) {
            c.userKey(Vectors.hex(o, "user_key"));
        }
        c.seal(Boolean.TRUE.equals(o.get("seal")));
        RedisStore store = RedisStore.open((String) o.get("url"), (String) o.get("namespace"), Duration.ofSeconds(60));
        Sessions sessions = new Sessions(store, c);
        // A busy machine may stop between a sign-in and its response
        sessions.recheckNanos = 5_000_000_000L;
        return new Client(store, sessions);
    }

    private static Field field(String name, String kind) {
        return switch (kind) {
            case "value" -> Value.of(name, Codec.JSON);
            case "map" -> MapField.of(name, Codec.JSON);
            case "counter" -> Counter.of(name);
            case "counters" -> Counters.of(name);
            default -> throw new UnsupportedOperationException(kind);
        };
    }

    private static Optional<Duration> duration(Map<String, Object> o, String name) {
        return Optional.ofNullable(o.get(name)).map(ms -> Duration.ofMillis((Long) ms));
    }

    private static Object[] split(Object name) {
        String text = (String) name;
        int colon = text.indexOf(':');
        return colon < 0 ? new Object[] {text, null} : new Object[] {text.substring(0, colon), text.substring(colon + 1)};
    }

    private static void act(Client client, Session s, List<?> a, List<Object> values) {
        String word = (String) a.get(0);
        switch (word) {
            case "renew" -> s.renew();
            case "sign in" -> s.signIn(login(client, Vectors.object(a.get(1))));
            case "sign out" -> s.signOut();
            case "user" -> values.add(s.user().isEmpty() ? null : s.user());
            case "info" -> values.add(info(s.info()));
            case "lifetime" -> values.add(Duration.between(s.info().created(), s.info().deadline()).toMillis());
            case "data" -> fields(s.userData(), a.subList(1, a.size()), values);
            case "data of" -> {
                UserData data = client.sessions.userData((String) a.get(1));
                fields(data, a.subList(2, a.size()), values);
                data.commit();
            }
            default -> {
                if (!manage(client.sessions, word, a, values)) {
                    fields(s, a, values);
                }
            }
        }
    }

    private static void fields(Data d, List<?> a, List<Object> values) {
        String word = (String) a.get(0);
        switch (word) {
            case "get", "has", "set", "set broken", "unset", "take", "append" -> value(d, word, a, values);
            case "count" -> values.add(Long.toString(count(d, split(a.get(1)))));
            case "add" -> {
                Object[] n = split(a.get(1));
                long delta = number(a.get(2));
                if (n[1] == null) {
                    Counter.of((String) n[0]).add(d, delta);
                } else {
                    Counters.of((String) n[0]).add(d, (String) n[1], delta);
                }
            }
            case "add within" -> {
                Object[] n = split(a.get(1));
                values.add(Long.toString(n[1] == null
                    ? Counter.of((String) n[0]).addWithin(d, number(a.get(2)), number(a.get(3)), number(a.get(4)))
                    : Counters.of((String) n[0]).addWithin(d, (String) n[1], number(a.get(2)), number(a.get(3)), number(a.get(4)),
                        (int) number(a.get(5)))));
            }
            case "set within" -> {
                Object[] n = split(a.get(1));
                MapField.of((String) n[0], Codec.JSON).setWithin(d, (String) n[1], a.get(2), (int) number(a.get(3)));
            }
            case "entries" -> values.add(MapField.of((String) a.get(1), Codec.JSON).all(d));
            case "counts" -> {
                Map<String, Object> texts = new HashMap<>();
                Counters.of((String) a.get(1)).all(d).forEach((k, n) -> texts.put(k, n.toString()));
                values.add(texts);
            }
            case "clear" -> {
                if (a.size() == 1) {
                    d.clear();
                } else {
                    MapField.of((String) a.get(1), Codec.JSON).clear(d);
                }
            }
            case "commit" -> d.commit();
            default -> throw new UnsupportedOperationException(word);
        }
    }

    private static boolean manage(Sessions m, String word, List<?> a, List<Object> values) {
        switch (word) {
            case "sessions" -> values.add(m.sessions((String) a.get(1)).stream().map(Info::handle).toList());
            case "count sessions" -> values.add((long) m.sessions((String) a.get(1)).size());
            case "revoke" -> m.revoke((String) a.get(1), (String) a.get(2));
            case "revoke user" -> values.add((long) m.revokeUser((String) a.get(1),
                a.size() < 3 ? List.of() : ((List<?>) a.get(2)).stream().map(String.class::cast).toList()));
            case "revoke everybody" -> m.revokeAll();
            case "delete user" -> values.add((long) m.deleteUser((String) a.get(1)));
            default -> {
                return false;
            }
        }
        return true;
    }

    private static long number(Object o) {
        return o instanceof Long n ? n : Long.parseLong((String) o);
    }

    private static long count(Data d, Object[] n) {
        return n[1] == null ? Counter.of((String) n[0]).get(d) : Counters.of((String) n[0]).get(d, (String) n[1]);
    }

    private static void value(Data d, String word, List<?> a, List<Object> values) {
        Object[] n = split(a.get(1));
        String key = (String) n[1];
        Value<Object> v = key == null ? Value.of((String) n[0], Codec.JSON) : null;
        MapField<Object> m = key == null ? null : MapField.of((String) n[0], Codec.JSON);
        switch (word) {
            case "get" -> values.add((v != null ? v.get(d) : m.get(d, key)).orElse(null));
            case "has" -> values.add(v != null ? v.isSet(d) : m.isSet(d, key));
            case "take" -> values.add((v != null ? v.take(d) : m.take(d, key)).orElse(null));
            case "unset" -> {
                if (v != null) {
                    v.delete(d);
                } else {
                    m.delete(d, key);
                }
            }
            case "append" -> values.add(v != null ? v.update(d, p -> appended(p, a.get(2))) : m.update(d, key, p -> appended(p, a.get(2))));
            default -> {
                Object to = word.equals("set") ? a.get(2) : "half \ud83d";
                if (v != null) {
                    v.set(d, to);
                } else {
                    m.set(d, key, to);
                }
            }
        }
    }

    private static Object appended(Optional<Object> present, Object element) {
        List<Object> list = new ArrayList<>();
        present.ifPresent(p -> list.addAll((List<?>) p));
        list.add(element);
        return list;
    }

    private static Login login(Client client, Map<String, Object> o) {
        Login l = Login.user((String) o.get("user"));
        if (o.containsKey("methods")) {
            l.methods(((List<?>) o.get("methods")).toArray(new String[0]));
        }
        l.level((int) Vectors.number(o, "level"));
        l.device(o.containsKey("device") ? (String) o.get("device") : "");
        l.userAgent((String) o.get("user_agent"));
        l.address((String) o.get("address"));
        duration(o, "remember_ms").ifPresent(l::remember);
        duration(o, "lifetime_ms").ifPresent(l::lifetime);
        duration(o, "began_ago_ms").ifPresent(ago -> l.began(client.sessions.config.clock.instant().minus(ago)));
        return l;
    }

    private static Map<String, Object> info(Info i) {
        Map<String, Object> o = new LinkedHashMap<>();
        o.put("user", i == null ? "" : i.user());
        o.put("methods", i == null ? List.of() : i.methods());
        o.put("level", i == null ? 0L : (long) i.level());
        o.put("device", i == null ? "" : i.device());
        o.put("user_agent", i == null ? "" : i.userAgent());
        o.put("address", i == null ? "" : i.address());
        return o;
    }
}

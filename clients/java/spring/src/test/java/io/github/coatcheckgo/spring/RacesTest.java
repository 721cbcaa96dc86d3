package io.github.coatcheckgo.spring;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.github.coatcheckgo.session.Config;
import io.github.coatcheckgo.session.Counter;
import io.github.coatcheckgo.session.RedisStore;
import io.github.coatcheckgo.session.SessionException;
import io.github.coatcheckgo.session.Sessions;
import io.github.coatcheckgo.testkit.RedisServer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.springframework.data.redis.connection.lettuce.LettuceConnectionFactory;
import org.springframework.data.redis.core.RedisTemplate;
import org.springframework.data.redis.serializer.StringRedisSerializer;
import org.springframework.session.Session;
import org.springframework.session.SessionRepository;
import org.springframework.session.data.redis.RedisIndexedSessionRepository;
import org.springframework.session.data.redis.RedisSessionRepository;

/**
 * The same races on Spring Session's repositories for Redis and on this one. Of theirs the test
 * prints what comes out, and of ours it checks that nothing is lost and that nothing comes back.
 */
class RacesTest {
    private static final int THREADS = 8;
    private static final int EACH = 25;
    private static final Counter COUNT = Counter.of("count");

    private static RedisServer redis;
    private static LettuceConnectionFactory connections;
    private static RedisStore store;

    @BeforeAll
    static void start() {
        redis = RedisServer.start();
        connections = new LettuceConnectionFactory("127.0.0.1", redis.port);
        connections.afterPropertiesSet();
        connections.start();
        store = RedisStore.open(redis.url(), "races", Duration.ofSeconds(60));
    }

    @AfterAll
    static void stop() {
        store.close();
        connections.destroy();
        redis.close();
    }

    private static <T extends RedisTemplate<String, Object>> T set(T template) {
        template.setConnectionFactory(connections);
        template.setKeySerializer(new StringRedisSerializer());
        template.setHashKeySerializer(new StringRedisSerializer());
        template.afterPropertiesSet();
        return template;
    }

    private static CoatcheckSessionRepository ours() {
        return new CoatcheckSessionRepository(new Sessions(store, new Config()), new Attributes());
    }

    private static void print(String what, Object... values) {
        System.out.println("races: " + String.format(what, values));
    }

    /** A change of a session by one request. */
    private interface Change<S> {
        void make(S session);
    }

    /** Makes many requests at once. Each reads the session, changes it and saves it. */
    private static <S extends Session> String many(SessionRepository<S> repository, Change<S> change) throws Exception {
        S first = repository.createSession();
        first.setAttribute("user", "ann");
        repository.save(first);
        String id = first.getId();
        ExecutorService threads = Executors.newFixedThreadPool(THREADS);
        List<Future<?>> all = new ArrayList<>();
        for (int t = 0; t < THREADS; t++) {
            all.add(threads.submit(() -> {
                for (int i = 0; i < EACH; i++) {
                    S s = repository.findById(id);
                    change.make(s);
                    repository.save(s);
                }
            }));
        }
        for (Future<?> one : all) {
            one.get();
        }
        threads.shutdown();
        return id;
    }

    /** Makes each request increment an attribute, and returns its value. */
    private static <S extends Session> Object sum(SessionRepository<S> repository) throws Exception {
        String id = many(repository, s -> {
            int n = s.getAttributeOrDefault("n", 0);
            s.setAttribute("n", n + 1);
        });
        Session after = repository.findById(id);
        return after.getAttribute("n");
    }

    @Test
    void noIncrementIsLost() throws Exception {
        int all = THREADS * EACH;
        RedisSessionRepository plain = new RedisSessionRepository(set(new RedisTemplate<>()));
        print("Spring Session: %s of %d increments are there", sum(plain), all);
        RedisIndexedSessionRepository indexed = new RedisIndexedSessionRepository(set(new RedisTemplate<>()));
        print("Spring Session, indexed: %s of %d", sum(indexed), all);
        CoatcheckSessionRepository ours = ours();
        String id = many(ours, s -> COUNT.add(s.session(), 1));
        print("this repository, with a Counter: %d of %d", COUNT.get(ours.findById(id).session()), all);
        assertEquals(all, COUNT.get(ours.findById(id).session()));
    }

    @Test
    void aSessionThatIsDeletedBetweenTheCheckAndTheWriteStaysDeleted() {
        List<RedisSessionRepository> repository = new ArrayList<>();
        List<String> delete = new ArrayList<>();
        RedisTemplate<String, Object> template = set(new RedisTemplate<String, Object>() {
            @Override
            // Save checks that the session exists, and then writes
            public Boolean hasKey(String key) {
                Boolean exists = super.hasKey(key);
                delete.forEach(id -> repository.get(0).deleteById(id));
                delete.clear();
                return exists;
            }
        });
        RedisSessionRepository plain = new RedisSessionRepository(template);
        repository.add(plain);
        theirs("Spring Session, signed out between its check and its write", plain, template, "spring:session:sessions:", delete::add, s -> { });
        ours(s -> { });
    }

    @Test
    void aSessionThatIsDeletedDuringARequestStaysDeleted() {
        RedisTemplate<String, Object> template = set(new RedisTemplate<>());
        RedisIndexedSessionRepository indexed = new RedisIndexedSessionRepository(template);
        String key = "spring:session:sessions:";
        theirs("Spring Session, indexed, signed out during a request", indexed, template, key, indexed::deleteById, s -> { });
        theirs("Spring Session, indexed, and the request sets maxInactiveInterval", indexed, template, key, indexed::deleteById,
            s -> s.setMaxInactiveInterval(Duration.ofMinutes(10)));
        ours(s -> s.setMaxInactiveInterval(s.getMaxInactiveInterval()));
    }

    private interface Delete {
        void delete(String id);
    }

    /** Prints what is left of a session that one request signs out while another one saves it. */
    private static <S extends Session> void theirs(String name, SessionRepository<S> repository, RedisTemplate<String, Object> template,
        String prefix, Delete delete, Change<Session> change) {
        S first = repository.createSession();
        first.setAttribute("user", "ann");
        repository.save(first);
        S slow = repository.findById(first.getId());
        delete.delete(first.getId());
        slow.setAttribute("late", "yes");
        change.make(slow);
        String saved = result(() -> {
            repository.save(slow);
            return "is reported as stored";
        });
        Set<Object> left = template.opsForHash().keys(prefix + first.getId());
        String next = result(() -> {
            S after = repository.findById(first.getId());
            return after == null ? "finds no session" : "finds the session of user " + after.getAttribute("user");
        });
        print("%s: the write %s, Redis has %s, the next request %s", name, saved, left, next);
    }

    private interface Attempt {
        String make();
    }

    private static String result(Attempt attempt) {
        try {
            return attempt.make();
        } catch (RuntimeException e) {
            return "fails: " + e.getMessage();
        }
    }

    private static void ours(Change<Session> change) {
        CoatcheckSessionRepository repository = ours();
        CoatcheckSession first = repository.createSession();
        first.setAttribute("user", "ann");
        repository.save(first);
        CoatcheckSession slow = repository.findById(first.getId());
        repository.deleteById(first.getId());
        slow.setAttribute("late", "yes");
        change.make(slow);
        SessionException e = assertThrows(SessionException.class, () -> repository.save(slow));
        assertEquals(SessionException.Kind.ENDED, e.kind());
        assertNull(repository.findById(first.getId()));
    }
}

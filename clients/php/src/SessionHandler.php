<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * Puts $_SESSION on a Manager, for code that cannot change:
 *
 *     SessionHandler::register($manager);
 *     session_start();
 *
 * Each key of $_SESSION is a field. At the end of the request, only the keys that changed are
 * written, each for itself: requests that change different keys both take effect, and none brings
 * an ended session back. A key with a count is read and written as a value. So $_SESSION['n']++ in
 * two requests at once counts once: use a Counter on session().
 *
 * Values are what JSON holds: no objects but ArrayObject and stdClass, which are read as arrays.
 * PHP's unserialize never sees what is stored. The output is buffered, and the changes are stored
 * before its first byte leaves. See README.md for what this cannot promise.
 */
final class SessionHandler implements \SessionHandlerInterface, \SessionIdInterface, \SessionUpdateTimestampHandlerInterface
{
    /** @var array<array-key, string> the JSON of each key, as $_SESSION began */
    private array $base = [];
    private string $id = '';
    private bool $regenerating = false;
    private bool $done = false;

    private function __construct(
        private readonly Manager $manager,
        private readonly Incoming $in,
        private readonly Session $session,
    ) {
    }

    /**
     * Makes the session functions of PHP use the manager. Call it before session_start() and before
     * any output, once for each request. It takes over the cookie: session_id() is a label that
     * grants no access.
     *
     * Throws CrossOrigin and Csrf, with the status of the response set.
     */
    public static function register(Manager $manager): self
    {
        if (\session_status() !== PHP_SESSION_NONE) {
            throw new \LogicException('session: a session is active: turn session.auto_start off, and call register() before session_start()');
        }
        if (\headers_sent($file, $line)) {
            throw new \LogicException("session: the output has begun at $file:$line: call register() before");
        }
        $settings = [
            'use_cookies' => '0', 'use_only_cookies' => '1', 'use_trans_sid' => '0', 'use_strict_mode' => '1', 'cache_limiter' => '',
            'serialize_handler' => 'php_serialize', 'lazy_write' => '1', 'gc_probability' => '0',
        ];
        foreach ($settings as $name => $value) {
            \ini_set("session.$name", $value);
        }
        $in = Incoming::fromGlobals();
        $handler = new self($manager, $in, $manager->begin($in));
        \session_set_save_handler($handler, false);
        \ob_start();
        \header_register_callback($handler->beforeHeaders(...));
        \register_shutdown_function($handler->shutdown(...));
        $handler->answering(fn () => $manager->check($in, $handler->session));
        return $handler;
    }

    /**
     * The session: for counters, maps, CSRF tokens and one-time values. $_SESSION does not show its
     * changes.
     */
    public function session(): Session
    {
        return $this->session;
    }

    /** Signs in: see Session::signIn(). $_SESSION then has what the sign-in keeps. */
    public function signIn(Login $login): void
    {
        $this->collect();
        $this->session->signIn($login);
        $this->show();
    }

    /** Signs out: see Session::signOut(). $_SESSION is then empty. */
    public function signOut(): void
    {
        $this->session->signOut();
        $this->show();
    }

    private function show(): void
    {
        // After session_destroy() the values of the ended session are still there.
        if (\session_status() === PHP_SESSION_ACTIVE || isset($_SESSION)) {
            $_SESSION = $this->values();
        }
    }

    /** Drops what was not stored: for an exception handler of the application. */
    public function discard(): void
    {
        $this->session->abandon();
        if (\session_status() === PHP_SESSION_ACTIVE) {
            \session_abort();
        }
    }

    // What PHP calls. $id is our own label.

    public function open(string $path, string $name): bool
    {
        return true;
    }

    public function close(): bool
    {
        return true;
    }

    public function create_sid(): string
    {
        if (self::isRegenerating()) {
            $this->regenerating = true;
            $this->collect();
            $this->answering($this->session->renew(...));
        }
        return $this->id = $this->answering($this->session->label(...));
    }

    public function validateId(string $id): bool
    {
        return $this->id !== '' && $id === $this->id && !$this->regenerating;
    }

    public function read(string $id): string
    {
        $this->regenerating = false;
        $values = $this->answering($this->values(...));
        // serialize() writes floats with this setting, which may cut them off. PHP reads the text
        // at once.
        $precision = (string) \ini_set('serialize_precision', '-1');
        try {
            return \serialize($values);
        } finally {
            \ini_set('serialize_precision', $precision);
        }
    }

    public function write(string $id, string $data): bool
    {
        if (!Manager::endsWithFatalError()) {
            $this->collect();
            $this->session->flush();
        }
        return true;
    }

    public function updateTimestamp(string $id, string $data): bool
    {
        return $this->write($id, $data);
    }

    public function destroy(string $id): bool
    {
        if (!self::isRegenerating()) {
            // session_regenerate_id(true) keeps the session, under a new token.
            $this->session->signOut();
            $this->base = [];
        }
        return true;
    }

    public function gc(int $max_lifetime): int|false
    {
        return 0; // the store does it
    }

    private static function isRegenerating(): bool
    {
        return \in_array('session_regenerate_id', \array_column(\debug_backtrace(DEBUG_BACKTRACE_IGNORE_ARGS), 'function'), true);
    }

    /**
     * The values of all fields. Entries of maps and of counters are not among them, nor is what PHP
     * cannot hold, such as an integer beyond 64 bits.
     *
     * @return array<array-key, mixed>
     */
    private function values(): array
    {
        $values = $this->base = [];
        foreach ($this->session->names() as $name) {
            if (\str_contains($name, ':')) {
                continue;
            }
            try {
                $value = $this->session->value($name);
                $this->base[$name] = Json::encode($value, $name);
                $values[$name] = $value;
            } catch (SessionException $e) {
                if (!$e->is(Problem::Decode) && !$e->is(Problem::Invalid)) {
                    throw $e;
                }
                // Another program's value that PHP cannot hold: it is not shown, and stays.
            }
        }
        return $values;
    }

    /**
     * Notes the keys of $_SESSION that changed since values(). After session_destroy() PHP leaves
     * the values of the ended session in $_SESSION: they are no changes of the next one.
     */
    private function collect(): void
    {
        if (\session_status() !== PHP_SESSION_ACTIVE) {
            return;
        }
        foreach ($_SESSION as $name => $value) {
            $name = (string) $name;
            Data::checkField($name);
            $json = Json::encode($value, $name); // refuses a reference to itself
            self::checkValue($name, $value);
            if ($json !== ($this->base[$name] ?? null)) {
                $this->session->setValue($name, $value);
                $this->base[$name] = $json;
            }
        }
        foreach (\array_keys($this->base) as $name) {
            if (!\array_key_exists($name, $_SESSION)) {
                $this->session->change('unset', (string) $name);
                unset($this->base[$name]);
            }
        }
    }

    private static function checkValue(string $name, mixed $value): void
    {
        if (\is_object($value) && !$value instanceof \stdClass && !$value instanceof \ArrayObject || \is_resource($value)) {
            throw new SessionException(Problem::Invalid, "\$_SESSION[\"$name\"] has a " . \get_debug_type($value) . ': store its data in an array');
        }
        if (\is_array($value) || \is_object($value)) {
            foreach ($value instanceof \ArrayObject ? $value : (array) $value as $inner) {
                self::checkValue($name, $inner);
            }
        }
    }

    // The end of the request

    /** Before the header leaves: at the end, or when the page flushes its output. */
    private function beforeHeaders(): void
    {
        if ($this->done) {
            return;
        }
        $this->done = true;
        try {
            $this->collect();
            $this->session->finish();
        } catch (SessionException $e) {
            $this->manager->warn("request failed: {$e->getMessage()}");
            \http_response_code($e->getStatusCode());
        }
        $this->manager->sendHeaders($this->in, $this->session);
    }

    private function shutdown(): void
    {
        $fatal = Manager::endsWithFatalError();
        try {
            if ($fatal) {
                $this->discard();
                while (\in_array(\ini_get('display_errors'), ['', '0', 'stderr'], true) && !\headers_sent() && \ob_get_level() > 0) {
                    \ob_end_clean();
                }
            } elseif (\session_status() === PHP_SESSION_ACTIVE) {
                \session_write_close();
            }
            if (!$this->done) {
                $fatal ? null : $this->session->finish();
            }
        } catch (SessionException $e) {
            $this->session->abandon();
            if (!\headers_sent()) {
                while (\ob_get_level() > 0) {
                    \ob_end_clean();
                }
                $this->done = true;
                $this->manager->sendHeaders($this->in, $this->session);
                \ob_start();
                $this->manager->sendError($e);
            } else {
                $this->manager->warn("changes made after the response header were lost: {$e->getMessage()}");
            }
        }
        if (!$this->done && !\headers_sent()) {
            $this->done = true;
            $this->manager->sendHeaders($this->in, $this->session);
        }
        $this->session->touch();
    }

    /**
     * Sets the status of the response before an exception leaves.
     *
     * @template T
     * @param \Closure(): T $call
     * @return T
     */
    private function answering(\Closure $call): mixed
    {
        try {
            return $call();
        } catch (SessionException $e) {
            if (!\headers_sent()) {
                \http_response_code($e->getStatusCode());
                foreach ($e->getHeaders() as $name => $value) {
                    \header("$name: $value");
                }
            }
            throw $e;
        }
    }
}

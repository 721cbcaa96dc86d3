<?php

declare(strict_types=1);

namespace Coatcheck\Session;

/**
 * A token: what the client has. The store knows it by the handle and the hash of the verifier.
 *
 * @internal
 */
final class Token
{
    private const SIZE = 39;

    private ?string $handle = null;
    private ?string $verifierHash = null;

    public function __construct(
        public readonly int $bucket,
        public readonly string $selector,
        public readonly string $verifier,
        public readonly int $generation = 0,
    ) {
    }

    /** A new token in the bucket of a user, or in a random one. */
    public static function new(?int $bucket = null): self
    {
        return new self($bucket ?? \random_int(0, 0xffff), \random_bytes(16), \random_bytes(16));
    }

    /** The token that replaces this one. */
    public function renewed(int $generation): self
    {
        return new self($this->bucket, $this->selector, \random_bytes(16), $generation);
    }

    public function withGeneration(int $generation): self
    {
        return new self($this->bucket, $this->selector, $this->verifier, $generation);
    }

    /** Returns "malformed" or "forged" for a text that is no token of these keys. */
    public static function parse(string $text, Keys $keys): self|string
    {
        $length = \strlen($text);
        $bytes = $length === 52 || $length === 76 ? Text::decode($text) : null;
        if ($bytes === null || $bytes[0] !== "\x01") {
            return 'malformed';
        }
        $token = \substr($bytes, 0, self::SIZE);
        if (!$keys->verify($token, \substr($bytes, self::SIZE))) {
            return 'forged';
        }
        /** @var array{bucket: int, generation: int} $numbers */
        $numbers = \unpack('x1/nbucket/x16/Ngeneration', $token);
        return new self($numbers['bucket'], \substr($token, 3, 16), \substr($token, 23, 16), $numbers['generation']);
    }

    public function text(Keys $keys): string
    {
        $bytes = \pack('Cn', 1, $this->bucket) . $this->selector . \pack('N', $this->generation) . $this->verifier;
        return Text::encode($bytes . $keys->sign($bytes));
    }

    public function handle(): string
    {
        return $this->handle ??= Text::hex($this->bucket, 4) . '-' . Text::hash($this->selector);
    }

    public function verifierHash(): string
    {
        return $this->verifierHash ??= Text::hash($this->verifier);
    }

    public function equals(self $other): bool
    {
        return $this->sameSession($other) && $this->generation === $other->generation
            && \hash_equals($this->verifier, $other->verifier);
    }

    public function sameSession(self $other): bool
    {
        return $this->bucket === $other->bucket && \hash_equals($this->selector, $other->selector);
    }
}

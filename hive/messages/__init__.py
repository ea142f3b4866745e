"""What the agents say to each other: frozen dataclasses, validated where they are made, and one codec for all."""

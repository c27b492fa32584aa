"""The agent of `library.yaml`. It knows of no queue: it has a vector store, which has embeddings."""

from __future__ import annotations

from pydantic import BaseModel
from rustic_ai.core.agents.commons.media import Document
from rustic_ai.core.guild import Agent, agent
from rustic_ai.core.guild.agent_ext.depends.vectorstore import VectorStore
from rustic_ai.core.guild.dsl import BaseAgentProps


class Passages(BaseModel):
    """Texts to keep, and what one looks for in them."""

    texts: list[str]
    wanted: str


class Passage(BaseModel):
    """The text that is closest to what was wanted."""

    text: str
    distance: float


class Librarian(Agent[BaseAgentProps]):
    """Puts passages into the guild's vector store, and finds the closest."""

    @agent.processor(Passages, depends_on=["vectorstore"])
    def find(self, ctx: agent.ProcessContext[Passages], vectorstore: VectorStore) -> None:
        asked = ctx.payload
        vectorstore.upsert(
            [
                Document(id=str(at), content=text, name=f"passage {at}", metadata={"place": at})
                for at, text in enumerate(asked.texts)
            ]
        )
        closest = vectorstore.similarity_search(asked.wanted, k=1).results[0]
        ctx.send(Passage(text=str(closest.document.content), distance=closest.score))
